# shellcheck shell=bash
# Makes what a machine starts with: `initrd` in the working folder.
#
# usage: bash pack.sh KERNEL SCRIPT CALL PROGRAM...    (KERNEL is the unpacked package, PROGRAM a path or a name that PATH finds)
set -euo pipefail
kernel=$1 script=$2 call=$3
shift 3
version=$(ls "$kernel/lib/modules")
root=$PWD/root
mkdir -p "$root"/{proc,sys,dev,run,tmp,etc,busybox,usr/{bin,sbin,lib/modules,lib64}}
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done

# add FILE: with the libraries that it loads, at the same places.
add() {
    local libraries
    libraries=$(ldd "$1" 2>/dev/null | grep -o '/[^ ]*' || true)
    # shellcheck disable=SC2086 # a list
    cp -L --parents "$1" $libraries "$root"
}

for program in bash busybox "$@"; do
    case $program in
    /*)
        add "$program"
        # Without what debuggers read, which is most of it.
        strip -o "$root$program" "$program"
        ln -s "$program" "$root/usr/sbin/"
        ;;
    *)
        file=$(command -v "$program") || { echo "there is no $program: run scripts/test, which installs what is missing" >&2; exit 1; }
        add "$(realpath "$file")"
        [ -e "$root/usr/sbin/$program" ] || [ -e "$root/usr/bin/$program" ] || ln -s "$(realpath "$file")" "$root/usr/sbin/$program"
        ;;
    esac
done
for extension in "$(dirname "$(dpkg -L iptables libxtables12 | grep -m1 'libxt_comment.so')")"/*.so; do add "$extension"; done

# Modules are loaded when they are first needed. They stay packed as they are: nobody has to unpack them again.
modules=lib/modules/$version
for part in kernel/net kernel/lib kernel/crypto kernel/arch kernel/drivers/{virtio,net/{dummy,veth,net_failover,virtio_net}.ko} modules.{order,builtin}; do
    mkdir -p "$root/$modules/$(dirname "$part")"
    cp -r "$kernel/$modules/$part" "$root/$modules/$(dirname "$part")"
done
busybox depmod -b "$root" "$version"
ln -s "$(realpath "$(command -v busybox)")" "$root/usr/sbin/modprobe"

cp "$script" "$root/script"
cat >"$root/init" <<END
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/busybox
busybox mount -t proc proc /proc
busybox --install -s /busybox
mount -t sysfs sysfs /sys
mount -t devtmpfs devices /dev
mount -t tmpfs tmpfs /run
(. /script && $call)
echo "guest: exit \$?"
poweroff -f
END
chmod +x "$root/init"
cd "$root"
find . | busybox cpio -o -H newc >../initrd 2>/dev/null
cd ..
rm -r root
