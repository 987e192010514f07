"""A run as the objects of a cluster. Pure, except ``local``, which reads this machine's files.

Others take ``spec.render`` and ``spec.text``, ``KubernetesSpec`` and ``Place``, ``local.look``, and the paths in a pod from
``placement``.
"""
