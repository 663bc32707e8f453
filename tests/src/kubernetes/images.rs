//! Images made by hand, as archives that a runtime imports: no registry is asked.

use std::path::{Path, PathBuf};

use crate::binaries;
use crate::failure::Outcome;
use crate::namespace;
use crate::peers;

/// What holds a pod's namespaces.
pub(super) const PAUSE: &str = "netd-tests.invalid/pause:1";
/// A server and client for all that a test asks: `/agnhost`, and busybox's programs.
pub const CLIENT: &str = "netd-tests.invalid/client:1";

/// Flannel's daemon with the iptables that it calls, its CNI plugin as `/flannel`, and busybox's `cp`.
pub(super) const FLANNEL: &str = "netd-tests.invalid/flannel:1";

/// Answers for Services' names.
pub const COREDNS: &str = "netd-tests.invalid/coredns:1";

/// Waits, and reaps what its pod leaves to it.
const PAUSE_C: &str = r"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int signal) { (void)signal; _exit(0); }
static void reap(int signal) { (void)signal; while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) {
    signal(SIGINT, end); signal(SIGTERM, end); signal(SIGCHLD, reap);
    for (;;) pause();
}
";

/// Makes an archive as `docker save` does: a configuration, one layer, and a list of both. `archive NAME FOLDER ENTRYPOINT...`.
const ARCHIVE: &str = r#"
archive() {
    name=$1 folder=$2 file=$3 start=$4
    mkdir -p made
    tar -C "$folder" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf made/layer.tar .
    sum=$(sha256sum made/layer.tar | cut -d' ' -f1)
    printf '{"architecture":"amd64","os":"linux","config":{"Entrypoint":[%s],"Env":["PATH=/bin:/"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{}]}' "$start" "$sum" >made/config.json
    printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$name" >made/manifest.json
    tar -C made -cf "$file" manifest.json config.json layer.tar
    rm -rf made "$folder"
}
"#;

/// The archives.
#[derive(Debug)]
pub struct Images {
    folder: PathBuf,
}

impl Images {
    /// Makes them below `disk`.
    pub(super) fn make(disk: &Path) -> Outcome<Self> {
        let folder = disk.join("images");
        let script = format!(
            r#"{ARCHIVE}
            mkdir -p {folder} && cd {folder}
            mkdir -p pause client/bin client/tmp client/etc
            gcc -Os -static -s -x c -o pause/pause - <<'end'
{PAUSE_C}
end
            archive {PAUSE} pause pause.tar '"/pause"'
            cp {agnhost} client/agnhost
            cp /bin/busybox client/bin/busybox
            for name in $(/bin/busybox --list); do ln -sf busybox client/bin/$name; done
            archive {CLIENT} client client.tar '"/agnhost"'"#,
            folder = folder.display(),
            agnhost = peers::AGNHOST.path()?.display(),
        );
        namespace::own().shell(&script)?;
        Ok(Self { folder })
    }

    /// Packs the image that the manifests name, and gives the archive: by `scripts/image` from the static programs that it wants. Others
    /// are packed with the libraries that they load.
    ///
    /// # Errors
    /// Where they were not built.
    pub fn netd(&self) -> Outcome<PathBuf> {
        let (netd, plugin) = (binaries::netd()?, binaries::plugin()?);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/image");
        let packing = format!(
            r#"{ARCHIVE}
            cd {folder}
            if ! ldd {netd} >/dev/null 2>&1; then
                {script} --no-build --output .
                exit
            fi
            mkdir -p netd
            cp {netd} netd/netd
            cp {plugin} netd/netd-cni
            ln -s netd netd/netd-proxy
            for library in $(ldd {netd} {plugin} | grep -o '/[^ :]*' | grep '\.so' | sort -u); do
                install -D $library netd$library
            done
            archive netd:{version} netd netd-image.tar '"/netd"'"#,
            folder = self.folder.display(),
            netd = netd.display(),
            plugin = plugin.display(),
            script = script.display(),
            version = env!("CARGO_PKG_VERSION"),
        );
        namespace::own().shell(&packing)?;
        Ok(self.folder.join("netd-image.tar"))
    }

    /// Packs flannel, and gives the archive.
    ///
    /// # Errors
    /// Where it was not built.
    pub fn flannel(&self) -> Outcome<PathBuf> {
        let packing = format!(
            r#"{ARCHIVE}
            cd {folder}
            mkdir -p flannel/opt/bin flannel/bin
            cp {flanneld} flannel/opt/bin/flanneld
            cp {plugin} flannel/flannel
            cp /bin/busybox flannel/bin/cp
            iptables=$(readlink -f /usr/sbin/iptables-nft)
            cp $iptables flannel/bin/xtables-nft-multi
            for name in iptables ip6tables; do
                for end in '' -save -restore; do ln -s xtables-nft-multi flannel/bin/$name$end; done
            done
            extensions=$(dirname $(dpkg -L iptables libxtables12 | grep -m1 'libxt_comment.so'))
            install -D -t flannel$extensions $extensions/*.so
            for library in $(ldd {flanneld} $iptables | grep -o '/[^ :]*' | grep '\.so' | sort -u); do
                install -D $library flannel$library
            done
            archive {FLANNEL} flannel flannel.tar '"/opt/bin/flanneld"'"#,
            folder = self.folder.display(),
            flanneld = peers::FLANNELD.path()?.display(),
            plugin = peers::FLANNEL_CNI.path()?.display(),
        );
        namespace::own().shell(&packing)?;
        Ok(self.folder.join("flannel.tar"))
    }

    /// Packs `CoreDNS`, and gives the archive.
    ///
    /// # Errors
    /// Where it was not built.
    pub fn coredns(&self) -> Outcome<PathBuf> {
        let program = peers::COREDNS.path()?;
        let packing = format!(
            "{ARCHIVE}
            cd {folder}
            mkdir -p coredns
            cp {program} coredns/coredns
            archive {COREDNS} coredns coredns.tar '\"/coredns\"'",
            folder = self.folder.display(),
            program = program.display(),
        );
        namespace::own().shell(&packing)?;
        Ok(self.folder.join("coredns.tar"))
    }

    /// All of them.
    pub fn all(&self) -> Vec<PathBuf> {
        ["pause.tar", "client.tar"].map(|name| self.folder.join(name)).to_vec()
    }
}
