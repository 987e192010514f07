# exp_1-20261124-101112-beef: experiment exp_1 in a container: 2 GPUs, ddp
mkdir -p '/big, disk/hf' /home/you/.cache/dpo-launcher '/home/you/my project/data/dpo/model' '/home/you/my project/data/dpo/model/exp_1/Qwen3-0.6B/runs/exp_1-20261124-101112-beef'
docker run --detach \
  --name dpo-exp_1-20261124-101112-beef-fccb2c \
  --hostname dpo-fccb2c \
  --label app.kubernetes.io/name=dpo-launcher \
  --label app.kubernetes.io/managed-by=dpo-launcher \
  --label dpo-launcher/run=exp_1-20261124-101112-beef \
  --label dpo-launcher/experiment=1 \
  --label 'dpo-launcher/folder=/home/you/my project/data/dpo/model/exp_1/Qwen3-0.6B/runs/exp_1-20261124-101112-beef' \
  --label dpo-launcher/user=1000 \
  --user 1000:1000 \
  --group-add 27 \
  --group-add 998 \
  --workdir /dpo/data \
  --env DPO_CACHE_ROOT=/dpo/cache \
  --env DPO_DATA_ROOT=/dpo/data \
  --env DPO_GRACE=120 \
  --env DPO_NNODES=1 \
  --env DPO_NPROC=2 \
  --env DPO_RUN=exp_1-20261124-101112-beef \
  --env DPO_RUN_FOLDER=/dpo/runs/data/dpo/model/exp_1/Qwen3-0.6B/runs/exp_1-20261124-101112-beef \
  --env DPO_RUN_ROOT=/dpo/runs \
  --env DPO_SECRETS=/run/secrets \
  --env 'GREETING=it'"'"'s me' \
  --env HF_HOME=/dpo/huggingface \
  --env HOME=/dpo/home \
  --env HTTPS_PROXY=http://p:1 \
  --env LOGNAME=you \
  --env OMP_NUM_THREADS=6 \
  --env PYTHONUNBUFFERED=1 \
  --env TMPDIR=/tmp \
  --env TOKENIZERS_PARALLELISM=false \
  --env TORCHINDUCTOR_CACHE_DIR=/dpo/cache/torchinductor \
  --env TORCH_EXTENSIONS_DIR=/dpo/cache/torch_extensions \
  --env TRITON_CACHE_DIR=/dpo/cache/triton \
  --env USER=you \
  --mount type=bind,source=/home/you/.cache/dpo-launcher,target=/dpo/cache \
  --mount 'type=bind,source=/home/you/my project/data/answers,target=/dpo/data/data/answers,readonly' \
  --mount 'type=bind,source=/home/you/my project/data/dpo/model,target=/dpo/runs/data/dpo/model' \
  --mount 'type=bind,source=/home/you/my project/data/dpo/model/exp_1/Qwen3-0.6B/runs/exp_1-20261124-101112-beef/experiment.json,target=/dpo/runs/data/dpo/model/exp_1/Qwen3-0.6B/runs/exp_1-20261124-101112-beef/experiment.json,readonly' \
  --mount type=bind,source=/run/user/1000/dpo-launcher-1000/dpo-exp_1-20261124-101112-beef-fccb2c,target=/run/secrets,readonly \
  --mount 'type=bind,"source=/big, disk/hf",target=/dpo/huggingface' \
  --read-only \
  --tmpfs /tmp:exec,mode=1777 \
  --tmpfs /dpo/home:mode=700,uid=1000,gid=1000 \
  --cap-drop ALL \
  --security-opt no-new-privileges \
  --pids-limit 4096 \
  --shm-size 16g \
  --memory 64g \
  --memory-swap 64g \
  --cpus 12 \
  --gpus '"device=2,3"' \
  --stop-timeout 130 \
  --log-opt max-size=10m \
  --log-opt max-file=2 \
  dpo-launcher:cuda-0123456789abcdef python -m trainer.processes.entrypoint /dpo/runs/data/dpo/model/exp_1/Qwen3-0.6B/runs/exp_1-20261124-101112-beef

# a step: 8 pairs = 2 per device × 2 accumulation × 2 devices
# the entry starts: torchrun --nnodes=1 --nproc-per-node=2 --master-addr=127.0.0.1 --master-port=<free> --max-restarts=0 -m trainer
# image dpo-launcher:cuda-0123456789abcdef: launch.image
# launch.max_restarts has no effect on the docker backend
# secrets: HF_TOKEN, WANDB_API_KEY, one file each in /run/user/1000/dpo-launcher-1000/dpo-exp_1-20261124-101112-beef-fccb2c, written before the start
# needs /home/you/my project/data/dpo/model/exp_1/Qwen3-0.6B/runs/exp_1-20261124-101112-beef/experiment.json (192 lines): --full prints the script that writes it
