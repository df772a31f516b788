#!/bin/sh
# Draw the secrets of a composition once, into a volume: no password is in a file of the repository or in the environment.
set -eu
umask 077
folder=${1:?folder of the secrets}
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
test -s "$folder/minio_user" || printf mats > "$folder/minio_user"
test -s "$folder/minio_password" || random > "$folder/minio_password"
test -s "$folder/ray_token" || random > "$folder/ray_token"
test -s "$folder/api_keys" || printf 'compose:%s\n' "$(random)" > "$folder/api_keys"
printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' \
    "$(cat "$folder/minio_user")" "$(cat "$folder/minio_password")" > "$folder/aws"
