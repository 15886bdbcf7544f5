#!/usr/bin/env bash
# As much as one call of limited length can do on a machine with an accelerator: benchmarks, then one task's training,
# continued from where the last call stopped.
#
#   eval/on_one_gpu.sh two_room OUT              # benchmarks into OUT, episodes, training for MINUTES, evaluation
#   eval/on_one_gpu.sh two_room OUT              # again, perhaps on a fresh machine with OUT copied there: continues
#
# OUT/run is all that a later call needs (`state/` continues to the bit on the same data); episodes are a pure function
# of their seed and are drawn again where they are missing. Environment variables, with what they do by default:
#
#   MINUTES=8        of training in this call; the run saves its state and stops then
#   EPISODES=1000    of the task's default expert, every fifth step drawn
#   IMAGE_SIZE=224   of the pictures
#   RECIPE           default: the task's full recipe
#   TRAIN_ARGS       further arguments of the training, such as "--max_steps 20000"
#   BENCH=1          0 leaves the benchmarks out
#   BENCH_TRAINING, BENCH_PLANNING   their arguments
#   WORKERS          of collection and loading; default: all cores
#   PYTHON=python    the interpreter
set -euo pipefail

[ $# -eq 2 ] || { sed -n '2,20p' "$0" >&2; exit 2; }
TASK=$1 OUT=$2
case $TASK in
two_room) NAME=tworoom EXTRA= ;;
push_t) NAME=pusht EXTRA= ;;
reacher | cube) NAME=$TASK EXTRA="--env-arg render_quality=fast" ;;
*) echo "$0: $TASK is no task: use two_room, push_t, reacher or cube" >&2; exit 2 ;;
esac
HERE=$(cd "$(dirname "$0")/.." && pwd)
PYTHON=${PYTHON:-python} MINUTES=${MINUTES:-8} EPISODES=${EPISODES:-1000} IMAGE_SIZE=${IMAGE_SIZE:-224}
RECIPE=${RECIPE:-$HERE/training/recipes/$NAME.yaml} TRAIN_ARGS=${TRAIN_ARGS:-} BENCH=${BENCH:-1}
WORKERS=${WORKERS:-$(nproc)}
export MUJOCO_GL=${MUJOCO_GL:-egl} PYTHONPATH=$HERE${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1
mkdir -p "$OUT"

say() { echo "== $(date +%T) $*"; }

if [ "$BENCH" = 1 ] && [ ! -e "$OUT/bench.done" ]; then
    # A benchmark that fails leaves its message, and the training goes on.
    say "windows per second of a training step"
    # shellcheck disable=SC2086
    $PYTHON "$HERE/training/bench_training.py" ${BENCH_TRAINING:---sizes full --variants bf16 bf16+compile} 2>&1 |
        tee "$OUT/bench_training.txt" || true
    say "milliseconds per plan"
    # shellcheck disable=SC2086
    $PYTHON "$HERE/eval/bench_planning.py" ${BENCH_PLANNING:---problems 1 50 --variants fp32 bf16 bf16+compile} 2>&1 |
        tee "$OUT/bench_planning.txt" || true
    touch "$OUT/bench.done"
fi

EPISODES_DIR=$OUT/episodes
say "$EPISODES episodes of $TASK at $IMAGE_SIZE px into $EPISODES_DIR"
# shellcheck disable=SC2086
$PYTHON -m lewm_hf.cli collect "$TASK" --episodes "$EPISODES" --every 5 --image-size "$IMAGE_SIZE" --seed 0 \
    --workers "$WORKERS" --out "$EPISODES_DIR" $EXTRA

RESUME=
[ -e "$OUT/run/state/progress.json" ] && RESUME=--resume
say "training for $MINUTES minutes${RESUME:+, continued}"
SECONDS_LEFT=$($PYTHON -c "print(max(1, round($MINUTES * 60)))")
STATUS=0
# SIGTERM lets the run save its state; the exit status of a run that was stopped so is not an error here.
# shellcheck disable=SC2086
timeout --preserve-status --signal=TERM "$SECONDS_LEFT" $PYTHON "$HERE/training/train.py" "$RECIPE" \
    --dataset "$EPISODES_DIR" --output_dir "$OUT/run" --num_workers "$WORKERS" --tracker none $TRAIN_ARGS $RESUME ||
    STATUS=$?
if [ ! -e "$OUT/run/state/progress.json" ]; then
    say "nothing was saved (status $STATUS)"
    exit "${STATUS/#0/1}"
fi
say "$($PYTHON -c "import json; print(json.load(open('$OUT/run/state/progress.json'))['step'])") steps are saved in $OUT/run"
if [ -e "$OUT/run/last/model.safetensors" ]; then
    say "success under clean, on the pairs that ship"
    $PYTHON -m lewm_hf.cli eval "$OUT/run/last" --env "$TASK" --protocol clean -n "${PAIRS:-50}" --seeds 42 \
        --out "$OUT/eval-clean" --overwrite
fi
