#!/bin/sh
# The measurements of docs/study.md for one score network: sh benchmarks/study.sh MODEL FEATURES DATA OUT [HELD]
# MODEL is a .safetensors file of its own (its prior is fitted anew), DATA a data set by name or path, HELD a folder of
# pictures that nothing saw where DATA has no test part. Every row is kept in OUT, so that a second call goes on.
set -e
MODEL=$1 FEATURES=$2 DATA=$3 OUT=$4 HELD=${5:+--held $5}
SAMPLES=${SAMPLES:-3000} BUDGET=${BUDGET:-20}
mkdir -p "$OUT"
COMMON="--features $FEATURES --reference $DATA --samples $SAMPLES"
MORE="--metrics fid precision-recall copying $HELD"
measure() { name=$1; shift; echo "== $name"; proxdm evaluate "$MODEL" $COMMON --out "$OUT/$name" "$@"; }
prior() { name=$1; shift; [ -f "$OUT/$name.safetensors" ] || proxdm prior fit "$MODEL" --out "$OUT/$name.safetensors" "$@"; }

prior mixture --data "$DATA"
prior gaussian --data "$DATA" --components 1 --directions 64
measure ours --prior "$OUT/mixture.safetensors" --sampler multistep --steps 1 2 3 4 5 8 10 20 --seeds ${SEEDS:-3} $MORE
measure gaussian --prior "$OUT/gaussian.safetensors" --sampler multistep --steps 1 2 3 4 5 10
[ -f "$OUT/.tuned" ] || proxdm tune "$MODEL" --features "$FEATURES" --reference "$DATA" --budget "$BUDGET" --prior none \
  --sampler ${OPPONENTS:-dpm++2m unipc ipndm deis} --steps ${STEPS:-2 3 5 10} && touch "$OUT/.tuned"
measure tuned --prior none --grid tuned --sampler ${OPPONENTS:-dpm++2m unipc ipndm deis} --steps ${STEPS:-2 3 5 10} $MORE
measure warm --prior "$OUT/mixture.safetensors" --sampler dpm++2m dpm++3m unipc ipndm deis heun ddim "ddim(eta=1)" \
  euler-maruyama ode-euler prox-hybrid prox-ode prox-exponential "prox-exponential(eta=1)" --steps 2 3 5
for k in 10 50 200; do
  prior "k$k" --data "$DATA" --components $k
  measure "k$k" --prior "$OUT/k$k.safetensors" --sampler multistep --steps 1 2 3
done
prior own --samples 2000
measure own --prior "$OUT/own.safetensors" --sampler multistep --steps 1 2 3
measure usual --prior none --sampler dpm++2m unipc ipndm deis heun ddim euler-maruyama ode-euler prox-hybrid --steps 5 10 20
