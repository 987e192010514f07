"""Damaged and invented files for what reads them: each is read, or refused at a place; none ends in a traceback.

python -m tests.fuzz [SECONDS] [KIND]...     lets atheris look for such files by coverage; `make fuzz` runs it in CI
"""
