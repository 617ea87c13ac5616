#!/usr/bin/env bash
# Blue and green behind nginx, as many teams deploy: what Teal is compared with. Each line on stdout names a step that begins.
#
#   deploy.sh PREFIX NAME VERSION SECONDS
#
# PREFIX   folder of nginx.conf, which includes upstream.conf, and of `ports`: app and management port of blue, then of green
# SECONDS  between the reload and the stop of what was live
set -euo pipefail
prefix=$1 name=$2 version=$3 seconds=$4
read -r blue blue_management green green_management <"$prefix/ports"
nginx=(nginx -p "$prefix" -c "$prefix/nginx.conf")

# Which one lives, and so which pair of ports is free.
live=$(docker ps --format '{{.Names}}' --filter "name=^$name-(blue|green)$")
if [ "$live" = "$name-blue" ]; then
    new=$name-green port=$green management=$green_management
else
    new=$name-blue port=$blue management=$blue_management
fi

echo start
docker run --detach --name "$new" --publish "127.0.0.1:$port:8080" --publish "127.0.0.1:$management:8081" \
    --env VERSION="$version" --env MANAGEMENT_PORT=8081 --env SIGTERM=drain "${IMAGE:-teal-sample:v1}" >/dev/null

echo check
for try in $(seq 100); do
    curl --fail --silent --output /dev/null "http://127.0.0.1:$management/health" && break
    if [ "$try" = 100 ]; then
        echo "$new does not get healthy" >&2
        docker rm --force "$new" >/dev/null
        exit 1
    fi
    sleep 0.1
done

cat >"$prefix/upstream.conf.new" <<UPSTREAM
upstream app { server 127.0.0.1:$port; keepalive 64; }
UPSTREAM
mv "$prefix/upstream.conf.new" "$prefix/upstream.conf"
"${nginx[@]}" -t -q

echo reload
"${nginx[@]}" -s reload
sleep "$seconds"

if [ -n "$live" ]; then
    echo stop
    docker stop "$live" >/dev/null
    docker rm "$live" >/dev/null
fi
echo done
