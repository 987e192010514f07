# exp_1-20261124-101112-beef: experiment exp_1 in a container: the CPU
mkdir -p /home/you/.cache/dpo-launcher '/home/you/my project/data/dpo/model' '/home/you/my project/data/dpo/model/exp_1/tiny/runs/exp_1-20261124-101112-beef'
docker run --detach \
  --name dpo-exp_1-20261124-101112-beef-b39ec7 \
  --hostname dpo-b39ec7 \
  --label app.kubernetes.io/name=dpo-launcher \
  --label app.kubernetes.io/managed-by=dpo-launcher \
  --label dpo-launcher/run=exp_1-20261124-101112-beef \
  --label dpo-launcher/experiment=1 \
  --label 'dpo-launcher/folder=/home/you/my project/data/dpo/model/exp_1/tiny/runs/exp_1-20261124-101112-beef' \
  --label dpo-launcher/user=1000 \
  --user 1000:1000 \
  --group-add 27 \
  --group-add 998 \
  --workdir '/dpo/data/my project' \
  --env ACCELERATE_USE_CPU=true \
  --env CUDA_VISIBLE_DEVICES= \
  --env DPO_CACHE_ROOT=/dpo/cache \
  --env 'DPO_DATA_ROOT=/dpo/data/my project' \
  --env DPO_GRACE=120 \
  --env DPO_NNODES=1 \
  --env DPO_NPROC=1 \
  --env DPO_RUN=exp_1-20261124-101112-beef \
  --env DPO_RUN_FOLDER=/dpo/runs/data/dpo/model/exp_1/tiny/runs/exp_1-20261124-101112-beef \
  --env DPO_RUN_ROOT=/dpo/runs \
  --env DS_ACCELERATOR=cpu \
  --env HF_HOME=/dpo/cache/huggingface \
  --env HOME=/dpo/home \
  --env LOGNAME=you \
  --env NVIDIA_VISIBLE_DEVICES=void \
  --env OMP_NUM_THREADS=16 \
  --env PYTHONUNBUFFERED=1 \
  --env TMPDIR=/tmp \
  --env TOKENIZERS_PARALLELISM=false \
  --env TORCHINDUCTOR_CACHE_DIR=/dpo/cache/torchinductor \
  --env TORCH_EXTENSIONS_DIR=/dpo/cache/torch_extensions \
  --env TRITON_CACHE_DIR=/dpo/cache/triton \
  --env USER=you \
  --mount type=bind,source=/home/you/.cache/dpo-launcher,target=/dpo/cache \
  --mount type=bind,source=/home/you/models/tiny,target=/dpo/data/models/tiny,readonly \
  --mount 'type=bind,source=/home/you/my project/data/dpo/model,target=/dpo/runs/data/dpo/model' \
  --mount type=bind,source=/srv/data,target=/srv/data,readonly \
  --mount 'type=bind,source=/home/you/my project/data/dpo/model/exp_1/tiny/runs/exp_1-20261124-101112-beef/experiment.json,target=/dpo/runs/data/dpo/model/exp_1/tiny/runs/exp_1-20261124-101112-beef/experiment.json,readonly' \
  --read-only \
  --tmpfs /tmp:exec,mode=1777 \
  --tmpfs /dpo/home:mode=700,uid=1000,gid=1000 \
  --cap-drop ALL \
  --security-opt no-new-privileges \
  --pids-limit 4096 \
  --shm-size 2g \
  --stop-timeout 130 \
  --log-opt max-size=10m \
  --log-opt max-file=2 \
  dpo-launcher:cuda-0123456789abcdef python -m trainer.processes.entrypoint /dpo/runs/data/dpo/model/exp_1/tiny/runs/exp_1-20261124-101112-beef

# a step: 8 pairs = 2 per device × 4 accumulation × 1 device
# the entry starts: torchrun --nnodes=1 --nproc-per-node=1 --master-addr=127.0.0.1 --master-port=<free> --max-restarts=0 -m trainer
# image dpo-launcher:cuda-0123456789abcdef: launch.image
# needs /home/you/my project/data/dpo/model/exp_1/tiny/runs/exp_1-20261124-101112-beef/experiment.json (187 lines): --full prints the script that writes it
