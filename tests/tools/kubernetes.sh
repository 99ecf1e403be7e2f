#!/usr/bin/env bash
# Checks deploy/kubernetes and deploy/helm with Helm, kubectl, yamllint and the schemas of Kubernetes, which are put into
# target/tools where they are missing; fast when they are there. No cluster is needed, and none is asked.
#   helm, helm-3, kubectl   as Amazon packs them for its CDK; PONTOON_HELM, PONTOON_HELM_3 and PONTOON_KUBECTL may name others
#   kubernetes/             the Python packages of tests/kubernetes/requirements.txt
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

# from_layer KUBERNETES VERSION MEMBER FILE: a program out of the layer that is packed for this version of Kubernetes.
from_layer() {
    local kubernetes=$1 version=$2 member=$3 file=$4 name=kubectl-v$1
    [[ $(uname -sm) == "Linux x86_64" ]] || {
        say "$(basename "$file") is to be had for Linux on x86_64 only; name one in PONTOON_HELM, PONTOON_HELM_3, PONTOON_KUBECTL"
        return 1
    }
    if [[ ! -f $work/$name.tgz ]]; then
        pip_download "aws-cdk-lambda-layer-$name" "$version"
        from_wheel "$work/$name.tgz" "*$name@*.jsii.tgz"
    fi
    python - "$work/$name.tgz" "$member" "$work/program" <<'PYTHON'
import pathlib, sys, tarfile, zipfile
package, member, target = sys.argv[1:]
with tarfile.open(package) as archive, zipfile.ZipFile(archive.extractfile("package/lib/layer.zip")) as layer:
    pathlib.Path(target).write_bytes(layer.read(member))
PYTHON
    chmod 755 "$work/program"
    mv "$work/program" "$file"
}

# is FILE VERSION ARGUMENT…: whether the program is there and says that it has this version.
is() {
    [[ $("$1" "${@:3}" 2>/dev/null) == *"$2"* ]]
}

helm=${PONTOON_HELM:-$tools/helm}
helm_3=${PONTOON_HELM_3:-$tools/helm-3}
kubectl=${PONTOON_KUBECTL:-$tools/kubectl}
[[ -n ${PONTOON_HELM:-} ]] || is "$helm" v4.3.1 version || from_layer 37 2.0.0 helm/helm "$helm"
[[ -n ${PONTOON_HELM_3:-} ]] || is "$helm_3" v3.17.2 version || from_layer 32 2.1.0 helm/helm "$helm_3"
[[ -n ${PONTOON_KUBECTL:-} ]] || is "$kubectl" v1.37.1 version --client || from_layer 37 2.0.0 kubectl/kubectl "$kubectl"

wanted=tests/kubernetes/requirements.txt
installed=$tools/kubernetes
# Some of it is compiled for one version of Python.
if ! cmp -s "$wanted" "$installed/requirements.txt" ||
    ! PYTHONPATH=$installed python -c 'import kubernetes_validate, yamllint' 2>/dev/null; then
    say "installing yamllint and the schemas of Kubernetes with pip"
    python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
        --target "$work/kubernetes" --requirement "$wanted"
    cp "$wanted" "$work/kubernetes"
    rm -rf "$installed"
    mv "$work/kubernetes" "$installed"
fi
# Nothing is written beside the sources.
export PYTHONPATH=$installed PYTHONDONTWRITEBYTECODE=1

python -m yamllint --strict .yamllint.yaml deploy/kubernetes deploy/helm/pontoon/*.yaml deploy/helm/pontoon/ci tests/kubernetes
python tests/kubernetes/check.py --pontoon "${CARGO_TARGET_DIR:-target}/debug/pontoon" --kubectl "$kubectl" \
    --helm "$helm" --helm "$helm_3"
