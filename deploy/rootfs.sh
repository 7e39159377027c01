#!/bin/sh
# rootfs.sh FOLDER: the image's file system, made of Debian packages that are installed here; the Dockerfile calls it.
# In it are Python, the libraries that it and the wheels are linked with, TLS authorities, time zones, and busybox as a
# shell. There is no package manager, no pip and no other program.
set -eu
root="$1"
packages="base-files busybox-static ca-certificates libbz2-1.0 libc6 libexpat1 libffi8 libgcc-s1 liblzma5
  libpython3.13-minimal libpython3.13-stdlib libsqlite3-0 libssl3t64 libstdc++6 libuuid1 libzstd1 media-types
  python3-minimal python3.13-minimal tzdata zlib1g"
unused='^/usr/share/(base-files|bash-completion|binfmts|bug|doc|initramfs-tools|lintian|locale|man|python3)/
^/usr/lib/python3\.13/(ensurepip|idlelib|pydoc_data|test|turtledemo|unittest)/
^/usr/bin/(ld\.so|py3|update-)|^/usr/sbin/|/gconv/|/ossl-modules/'

{
  # shellcheck disable=SC2086 # words
  dpkg --listfiles $packages
  find /usr/lib/python3.13 -name '*.pyc'
} | sort -u | grep -Ev "$unused" | while read -r path; do
  if [ -f "$path" ] || [ -L "$path" ]; then echo "${path#/}"; fi
done >/tmp/files
install -d "$root"
tar -C / -cf - -T /tmp/files etc/ssl/certs etc/ld.so.cache | tar -C "$root" -xf -
for applet in cat ls rm sh sleep; do ln -s busybox "$root/usr/bin/$applet"; done

install -d "$root/dev" "$root/proc" "$root/sys" "$root/run"
install -d -m 1777 "$root/tmp"
install -d -o 10001 -g 10001 -m 700 "$root/data"
echo 'root:x:0:0::/:/usr/sbin/nologin
orouter:x:10001:10001::/data:/usr/sbin/nologin' >"$root/etc/passwd"
echo 'root:x:0:
orouter:x:10001:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
