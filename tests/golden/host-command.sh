# demo-1: experiment demo on this machine: 2 GPUs, ddp
cd '/home/you/my project'
env \
  DPO_CACHE_ROOT=/home/you/.cache/dpo-launcher \
  DPO_DATA_ROOT='/home/you/my project' \
  DPO_GRACE=120 \
  DPO_NNODES=1 \
  DPO_NPROC=2 \
  DPO_RUN=demo-1 \
  DPO_RUN_FOLDER='/home/you/my project/data/dpo/model/exp_1/Qwen3-0.6B/runs/demo-1' \
  DPO_RUN_ROOT='/home/you/my project' \
  GREETING='it'"'"'s me' \
  HF_HOME=/home/you/.cache/dpo-launcher/huggingface \
  HTTPS_PROXY=http://p:1 \
  OMP_NUM_THREADS=8 \
  PYTHONUNBUFFERED=1 \
  TOKENIZERS_PARALLELISM=false \
  /home/you/.venv/bin/python -m trainer.processes.entrypoint '/home/you/my project/data/dpo/model/exp_1/Qwen3-0.6B/runs/demo-1'

# a step: 8 pairs = 2 per device × 2 accumulation × 2 devices
# the entry starts: torchrun --nnodes=1 --nproc-per-node=2 --master-addr=127.0.0.1 --master-port=<free> --max-restarts=0 -m trainer
# launch.shm_size has no effect on the host backend
# launch.max_restarts has no effect on the host backend
# needs HF_TOKEN in your environment (values are never shown)
# needs /home/you/my project/data/dpo/model/exp_1/Qwen3-0.6B/runs/demo-1/experiment.json (192 lines): --full prints the script that writes it
