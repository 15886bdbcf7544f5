#!/usr/bin/env bash
# The command behind each table and figure of the paper (arXiv 2603.19312).
#
#   eval/reproduce.sh                  what there is
#   eval/reproduce.sh table1           the commands of one of them
#   eval/reproduce.sh table1 --run     runs them; again after an interruption, it continues
#
# RUNS (default: runs) is where episodes, checkpoints and results go. Where a checkpoint is used, its training comes
# first. Tables share collections and trainings: what is finished is not made twice. TRAIN is the launcher, PYTHON the
# interpreter.
set -euo pipefail

RUNS=${RUNS:-runs}
PYTHON=${PYTHON:-python}
TRAIN=${TRAIN:-accelerate launch}
NAMES="table1 table3 table4 table5 table6 table7 table8 table9 table10 history inverse fig3 fig6 fig7 voe fig15 fig16 fig17 fig18"

collect() { # environment
    echo "lewm collect $1 --preset paper --out $RUNS/episodes/$1"
}

train() { # environment, recipe, run, further arguments
    echo "$TRAIN training/train.py training/recipes/$2.yaml --dataset $RUNS/episodes/$1 --output_dir $RUNS/$3${4:+ $4}"
}

success() { # environment, run, further arguments
    echo "lewm eval $RUNS/$2/last --episodes $RUNS/episodes/$1 --protocol paper --out $RUNS/$2/eval-paper${3:+ $3}"
}

recipe() { # environment -> recipe
    case $1 in two_room) echo tworoom ;; push_t) echo pusht ;; *) echo "$1" ;; esac
}

model() { # environment: episodes and a checkpoint
    collect "$1"
    train "$1" "$(recipe "$1")" "$1"
}

action_dim() { # environment
    case $1 in cube) echo 5 ;; *) echo 2 ;; esac
}

other() { # environment, system: one of the systems that LeWM is compared with
    train "$1" "$2" "$1-$2" "--action_dim $(action_dim "$1")"
}

probing() { # environment
    local run
    model "$1"
    other "$1" pldm
    other "$1" dino-wm
    for run in "$1" "$1-pldm" "$1-dino-wm"; do
        echo "lewm probe $RUNS/$run/last --episodes $RUNS/episodes/$1 --out $RUNS/$run/probe"
    done
}

ablation() { # field, values...
    local field=$1 value seed
    shift
    collect push_t
    for value in "$@"; do
        for seed in 0 1 2; do
            train push_t pusht "ablation/$field-$value/seed-$seed" "--$field $value --seed $seed"
            success push_t "ablation/$field-$value/seed-$seed"
        done
    done
    echo "$PYTHON eval/success_table.py $RUNS/ablation/$field-*"
}

describe() {
    case $1 in
    table1) echo "probes on PushT; the paper's numbers are printed beside" ;;
    table3) echo "probes on TwoRoom; the paper's numbers are printed beside" ;;
    table4) echo "probes on Cube; the paper's numbers are printed beside" ;;
    table5) echo "PushT success over training seeds (paper: LeWM 96.0 +- 2.83, PLDM 78.0 +- 5.0, DINO-WM 92.0 +- 1.63)" ;;
    table6) echo "size of the predictor, by the width of its MLP (paper: tiny 80.67 +- 6.54, small 96.0 +- 2.83, base 86.7 +- 3.06)" ;;
    table7) echo "decoder loss during training (paper: without 96.0 +- 2.83, with 86.0 +- 7.54)" ;;
    table8) echo "encoder (paper: ViT 96.0 +- 2.83, ResNet-18 94.0 +- 3.27)" ;;
    table9) echo "dropout (paper: 0: 78 +- 6.54, 0.1: 96 +- 2.83, 0.2: 85.33 +- 5.74, 0.5: 66.67 +- 4.11)" ;;
    table10) echo "solvers on PushT; the paper's numbers stand in docs/planning.md" ;;
    history) echo "frames that the predictor sees (arXiv 2606.20104: 89.0, 89.8, 88.6 on PushT; 64.4, 94.8, 94.6 on Reacher)" ;;
    inverse) echo "weight of inverse dynamics (arXiv 2606.20104: 89.0 without, 91.0 with 10 on PushT)" ;;
    fig3) echo "planning time of LeWM and DINO-WM (paper: 0.98 s and 47 s on an L40S)" ;;
    fig6) echo "planning success on all tasks (paper: TwoRoom 87, Reacher 86, PushT 96, Cube 74; n = 50)" ;;
    fig7) echo "decoded open-loop rollouts (figures 7 and 11)" ;;
    voe) echo "violation of expectation (paper: teleports significant in all tasks, p < 0.01; colors weaker)" ;;
    fig15) echo "embedding size, SIGReg's projections and knots" ;;
    fig16) echo "weight of SIGReg (paper: above 80 on [0.01, 0.2], peak at 0.09, sharp fall at 0.5)" ;;
    fig17) echo "temporal straightness over training on PushT (paper: rises over 150,000 steps)" ;;
    fig18) echo "loss terms over training: the curves of the run's report" ;;
    esac
}

commands() {
    local env system seed
    case $1 in
    table1) probing push_t ;;
    table3) probing two_room ;;
    table4) probing cube ;;
    table5)
        ablation embed_dim 192
        for system in pldm dino-wm; do
            for seed in 0 1 2; do
                train push_t "$system" "systems/$system/seed-$seed" "--seed $seed"
                success push_t "systems/$system/seed-$seed"
            done
        done
        echo "$PYTHON eval/success_table.py $RUNS/systems/*"
        ;;
    # The paper gives names of ViT sizes, not widths; the released predictor is "small".
    table6) ablation predictor_mlp_size 512 2048 8192 ;;
    table7) ablation model_type lewm lewm_with_decoder ;;
    history) ablation history_size 1 2 3 ;;
    inverse) ablation inverse_weight 0 1 10 ;;
    table8) ablation encoder vit resnet18 ;;
    table9) ablation predictor_dropout 0 0.1 0.2 0.5 ;;
    table10)
        model push_t
        echo "$PYTHON eval/solver_curves.py $RUNS/push_t/last --table10 --protocol paper --episodes $RUNS/episodes/push_t --out $RUNS/table10"
        ;;
    fig3) echo "$PYTHON eval/bench_world_models.py" && echo "$PYTHON eval/bench_planning.py" ;;
    fig6)
        for env in two_room reacher push_t cube; do
            model "$env"
            success "$env" "$env"
            for system in pldm dino-wm; do
                other "$env" "$system"
                success "$env" "$env-$system"
            done
            other "$env" gcbc
            success "$env" "$env-gcbc" "--policy actor"
        done
        echo "$PYTHON eval/success_table.py $RUNS/two_room* $RUNS/reacher* $RUNS/push_t* $RUNS/cube*"
        ;;
    fig7)
        for env in two_room push_t cube; do
            model "$env"
            echo "$TRAIN training/train_decoder.py training/recipes/decoder.yaml --model $RUNS/$env/last" \
                "--dataset $RUNS/episodes/$env --output_dir $RUNS/$env-decoder"
            echo "lewm decode $RUNS/$env/last $RUNS/$env-decoder/best --episodes $RUNS/episodes/$env" \
                "--out $RUNS/$env/decode"
        done
        ;;
    voe)
        for env in two_room push_t cube; do
            model "$env"
            echo "lewm surprise $RUNS/$env/last --episodes $RUNS/episodes/$env --out $RUNS/$env/surprise"
        done
        ;;
    fig15)
        ablation embed_dim 8 24 96 192 384
        ablation sigreg_projections 64 256 512 1024
        ablation sigreg_knots 4 8 12 17 32
        ;;
    fig16) ablation sigreg_weight 0.01 0.05 0.09 0.095 0.1 0.2 0.5 ;;
    fig17) model push_t && echo "$PYTHON eval/straightness.py $RUNS/push_t --out $RUNS/push_t/straightness.png" ;;
    fig18) model push_t && echo "lewm report $RUNS/push_t" ;;
    *)
        echo "error: there is no $1: use one of $NAMES" >&2
        exit 2
        ;;
    esac
}

if [ $# -eq 0 ]; then
    for name in $NAMES; do printf '%-8s %s\n' "$name" "$(describe "$name")"; done
    exit
fi
listed=$(commands "$1")
case ${2:-} in
--run)
    while IFS= read -r line; do
        run=$(sed -n 's/.*--output_dir \([^ ]*\).*/\1/p' <<<"$line")
        # A training that was begun for another table, or interrupted, is continued; a finished one ends at once.
        if [ -n "$run" ] && [ -e "$run/recipe.yaml" ]; then line+=" --resume"; fi
        echo "+ $line" >&2
        bash -c "$line" </dev/null
    done <<<"$listed"
    ;;
"") printf '# %s\n%s\n' "$(describe "$1")" "$listed" ;;
*)
    echo "error: what is $2? Leave it out, or give --run" >&2
    exit 2
    ;;
esac
