#!/usr/bin/env bash
# Ory Hydra with open registration, in memory. Prints its address when it is ready.
set -euo pipefail
cd "$(dirname "$0")"
# its issuer names the port, so that the system cannot choose one as it listens
read -r port admin < <(python3 -c '
import socket
both = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in both))')
export DSN=memory SECRETS_SYSTEM=live-test-system-secret-0001 SQA_OPT_OUT=true URLS_SELF_ISSUER="http://127.0.0.1:$port"
export SERVE_PUBLIC_HOST=127.0.0.1 SERVE_PUBLIC_PORT="$port" SERVE_ADMIN_HOST=127.0.0.1 SERVE_ADMIN_PORT="$admin"
export OIDC_DYNAMIC_CLIENT_REGISTRATION_ENABLED=true
{
  ready="http://127.0.0.1:$admin/health/ready"
  curl --silent --fail --output /dev/null --retry 300 --retry-delay 0 --retry-max-time 30 --retry-connrefused "$ready" &&
    echo "http://127.0.0.1:$port"
} &
exec ./hydra serve all --dev >/dev/null
