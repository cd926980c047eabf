#!/usr/bin/env bash
# A CI build of a notebook repository with the legacy CLI and jq.
#
#   REPO_NAME, BUILD_ID, BRANCH, CLUSTER_ID  what is built and where it runs
#   SOURCE                                   folder with notebooks/, data/ and perhaps models/
#   DRIVER, TEMPLATE                         the notebook of the job, in notebooks/, and the job's template
#   RESULTS                                  folder for the fetched test reports
#   POLL_SECONDS, POLL_LIMIT                 how often and how long the run is polled
set -euo pipefail

: "${REPO_NAME:?}" "${BUILD_ID:?}" "${BRANCH:?}" "${CLUSTER_ID:?}" "${SOURCE:?}" "${RESULTS:?}"
POLL_SECONDS="${POLL_SECONDS:-10}"
POLL_LIMIT="${POLL_LIMIT:-60}"
DRIVER="${DRIVER:-.run-checks.py}"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

workspace="/Shared/build/$REPO_NAME/$BUILD_ID"
storage="dbfs:/mnt/build/$REPO_NAME/$BUILD_ID"
driver="/Shared/build/$REPO_NAME/${DRIVER#.}"
TEMPLATE="${TEMPLATE:-$here/job-template.json}"
case "$DRIVER" in
    *.r) language=R ;;
    *) language=PYTHON ;;
esac

echo "== workspace: $workspace"
databricks workspace mkdirs "$workspace"
databricks workspace import "$SOURCE/notebooks/$DRIVER" "$driver" -o -l "$language"
databricks workspace import_dir -o -e "$SOURCE/notebooks" "$workspace"

echo "== storage: $storage"
for part in data models; do
    [ ! -d "$SOURCE/$part" ] || databricks fs cp -r "$SOURCE/$part" "$storage/$part" --overwrite
done
databricks fs mkdirs "$storage/results"

echo "== job: build-$REPO_NAME"
job_id="$(databricks jobs list --output JSON |
    jq --arg name "build-$REPO_NAME" '[.jobs[] | select(.settings.name == $name) | .job_id][0] // empty')"
if [ -z "$job_id" ]; then
    document="$(mktemp)"
    sed -e "s|#{repo-name}#|$REPO_NAME|g" -e "s|#{cluster-id}#|$CLUSTER_ID|g" -e "s|#{master-notebook}#|$driver|g" \
        "$TEMPLATE" >"$document"
    job_id="$(databricks jobs create --json-file "$document" | jq .job_id)"
    rm -f "$document"
    echo "created job $job_id"
else
    echo "found job $job_id"
fi

parameters="$(jq -n --arg workspace "$workspace" --arg storage "/dbfs${storage#dbfs:}" --arg repo "$REPO_NAME" \
    --arg build "$BUILD_ID" --arg branch "$BRANCH" \
    '{workspace: $workspace, storage: $storage, repo: $repo, build: $build, branch: $branch}')"
run_id="$(databricks jobs run-now --job-id "$job_id" --notebook-params "$parameters" | jq .run_id)"

echo "== run: $run_id"
waited=0
result=""
while [ "$waited" -lt "$POLL_LIMIT" ]; do
    state="$(databricks runs get --run-id "$run_id" | jq -c .state)"
    echo "after $waited s: $state"
    if [ "$(jq -r .life_cycle_state <<<"$state")" = TERMINATED ]; then
        result="$(jq -r .result_state <<<"$state")"
        break
    fi
    sleep "$POLL_SECONDS"
    waited=$((waited + POLL_SECONDS))
done

echo "== results"
mkdir -p "$RESULTS"
databricks fs cp -r "$storage/results" "$RESULTS" --overwrite

echo "== clean-up"
databricks workspace rm -r "$workspace" --debug
databricks fs rm -r "$storage" --debug

case "$result" in
    SUCCESS) echo "build passed" ;;
    "") echo "no verdict within $POLL_LIMIT s" >&2; exit 3 ;;
    *) echo "build failed: $result" >&2; exit 1 ;;
esac
