//! The container image: what is in it, that it runs by itself, that it is the same for the same commit, and that a runtime takes it.
//!
//! It is packed from the programs of `scripts/build` in target/dist.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use netd_tests::suite::test;
use netd_tests::{Context, Outcome, ensure, eventually, seconds};
use serde_json::Value;
use tempfile::TempDir;

/// What it may weigh, with nothing compressed.
const LIMIT: u64 = 15_000_000;

/// How containerd completes the name that the manifests use.
const FULL_NAME: &str = "docker.io/library";

fn main() -> ExitCode {
    netd_tests::suite::run(|| {
        vec![
            test("the image: small, two static programs and nothing else", contents),
            test("the programs run where nothing else is", alone),
            test("the same commit gives the same bytes", same_bytes),
            test("labels, version and entry point are in the image", labels),
            test("the manifests name the image that is made", named),
            test("containerd imports both archives and runs them", imported),
        ]
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Runs a command and gives what it printed.
fn run(command: &mut Command) -> Outcome<String> {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().context(format!("start {line}"))?;
    netd_tests::namespace::printed(&line, &output)
}

/// Both archives, packed into a folder of the test's own.
struct Image {
    folder: TempDir,
}

impl Image {
    fn pack() -> Outcome<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let mut pack = Command::new(root().join("scripts/image"));
        run(pack.arg("--no-build").arg("--output").arg(folder.path()))?;
        Ok(Self { folder })
    }

    fn docker(&self) -> PathBuf {
        self.folder.path().join("netd-image.tar")
    }

    fn oci(&self) -> PathBuf {
        self.folder.path().join("netd-image-oci.tar")
    }

    /// A document in the Docker archive.
    fn document(&self, name: &str) -> Outcome<Value> {
        let text = run(Command::new("tar").arg("-xOf").arg(self.docker()).arg(name))?;
        serde_json::from_str(&text).context(format!("parse {name}"))
    }

    /// The one layer, unpacked.
    fn unpacked(&self) -> Outcome<PathBuf> {
        let manifest = self.document("manifest.json")?;
        let layers = manifest[0]["Layers"].as_array().context("no layers")?;
        ensure!(layers.len() == 1, "the image has {} layers", layers.len());
        let (layer, tree) = (layers[0].as_str().unwrap_or_default(), self.folder.path().join("root"));
        std::fs::create_dir(&tree).context("make a folder")?;
        run(Command::new("tar").arg("-xf").arg(self.docker()).arg("-C").arg(self.folder.path()).arg(layer))?;
        let file = self.folder.path().join(layer);
        let size = std::fs::metadata(&file).context("look at the layer")?.len();
        ensure!(size <= LIMIT, "the image has {size} bytes");
        run(Command::new("tar").arg("-xf").arg(file).arg("-C").arg(&tree))?;
        Ok(tree)
    }
}

fn contents() -> Outcome {
    let image = Image::pack()?;
    let tree = image.unpacked()?;
    let found = run(Command::new("find").arg(&tree).args(["-mindepth", "1", "-printf", "%P %m %y\n"]))?;
    let mut found: Vec<&str> = found.lines().collect();
    found.sort_unstable();
    ensure!(found == ["netd 755 f", "netd-cni 755 f", "netd-proxy 777 l"], "the image holds {found:?}");
    for program in ["netd", "netd-cni"] {
        let headers = run(Command::new("readelf").args(["--program-headers", "--wide"]).arg(tree.join(program)))?;
        ensure!(!headers.contains("INTERP"), "{program} needs a loader:\n{headers}");
        let needs = run(Command::new("readelf").args(["--dynamic", "--wide"]).arg(tree.join(program)))?;
        ensure!(!needs.contains("NEEDED"), "{program} needs a library:\n{needs}");
    }
    Ok(())
}

fn alone() -> Outcome {
    let image = Image::pack()?;
    let tree = image.unpacked()?;
    let version = run(Command::new("chroot").arg(&tree).args(["/netd", "--version"]))?;
    ensure!(version.trim() == format!("netd {}", env!("CARGO_PKG_VERSION")), "it says {version:?}");
    let help = run(Command::new("chroot").arg(&tree).args(["/netd-proxy", "--help"]))?;
    ensure!(help.contains("Usage: netd-proxy") && help.contains("--cluster-cidr"), "netd-proxy says {help:?}");
    // Where the program itself is cannot be known without /proc, which a runtime mounts.
    let (folder, plugin) = (tree.join("bin"), ["--cni-plugin", "/netd-cni"]);
    run(Command::new("chroot").arg(&tree).args(["/netd", "install-cni", "--cni-bin-dir", "/bin"]).args(plugin))?;
    let plugin = run(Command::new("chroot").arg(&tree).arg("/bin/netd").env_remove("CNI_COMMAND"));
    ensure!(folder.join("netd").is_file() && plugin.is_ok(), "the installed plugin: {plugin:?}");
    Ok(())
}

fn same_bytes() -> Outcome {
    let (one, other) = (Image::pack()?, Image::pack()?);
    for (a, b) in [(one.docker(), other.docker()), (one.oci(), other.oci())] {
        let read = |path: &Path| std::fs::read(path).context("read an archive");
        ensure!(read(&a)? == read(&b)?, "two packings of {} differ", a.display());
    }
    Ok(())
}

fn labels() -> Outcome {
    let image = Image::pack()?;
    let manifest = image.document("manifest.json")?;
    let config = image.document(manifest[0]["Config"].as_str().context("no config")?)?;
    let label = |name: &str| config["config"]["Labels"][format!("org.opencontainers.image.{name}")].as_str();
    ensure!(label("title") == Some("netd") && label("licenses") == Some("Apache-2.0"), "{config}");
    ensure!(label("version") == Some(env!("CARGO_PKG_VERSION")), "{config}");
    let head = run(Command::new("git").arg("-C").arg(root()).args(["rev-parse", "HEAD"]))?;
    ensure!(label("revision").is_some_and(|revision| revision.starts_with(head.trim())), "{config}");
    ensure!(config["config"]["Entrypoint"][0] == "/netd" && config["os"] == "linux", "{config}");
    Ok(())
}

/// The name in the archive.
fn name(image: &Image) -> Outcome<String> {
    let manifest = image.document("manifest.json")?;
    Ok(manifest[0]["RepoTags"][0].as_str().context("the image has no name")?.to_owned())
}

fn named() -> Outcome {
    let name = name(&Image::pack()?)?;
    for file in ["manifests/netd.yml", "manifests/cleanup.yml"] {
        let text = std::fs::read_to_string(root().join(file)).context(format!("read {file}"))?;
        let images: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
        ensure!(!images.is_empty() && images.iter().all(|image| *image == name), "{file}: {images:?}, made is {name}");
    }
    Ok(())
}

/// A containerd of the test's own. Killed when dropped.
struct Containerd {
    child: Child,
    folder: TempDir,
}

impl Containerd {
    fn start() -> Outcome<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let at = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \
             \"io.containerd.internal.v1.opt\"]\n[grpc]\n  address = {:?}\n",
            at("root"),
            at("state"),
            at("socket")
        );
        std::fs::write(at("config.toml"), config).context("configure containerd")?;
        let log = std::fs::File::create(at("log")).context("make a log")?;
        // With a /proc of this process namespace: runc looks its containers up there.
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--mount-proc", "containerd", "--config", &at("config.toml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().context("start containerd")?;
        let it = Self { child, folder };
        eventually(seconds(30), "containerd answers", || it.ctr(&["version"])).map_err(|failure| {
            let log = std::fs::read_to_string(it.folder.path().join("log")).unwrap_or_default();
            failure.with("its log", &log)
        })?;
        Ok(it)
    }

    fn ctr(&self, arguments: &[&str]) -> Outcome<String> {
        run(Command::new("ctr").arg("--address").arg(self.folder.path().join("socket")).args(arguments))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // What is left of it dies with the suite.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn imported() -> Outcome {
    let image = Image::pack()?;
    let containerd = Containerd::start()?;
    let name = format!("{FULL_NAME}/{}", name(&image)?);
    // The one that needs nothing of the kernel, so that it works for a mapped root too.
    let snapshotter = ["--snapshotter", "native"];
    for (id, archive) in [("docker", image.docker()), ("oci", image.oci())] {
        let archive = archive.display().to_string();
        containerd.ctr(&[&["images", "import"], &snapshotter[..], &[&archive]].concat())?;
        let images = containerd.ctr(&["images", "ls", "-q"])?;
        ensure!(images.trim() == name, "containerd has {images:?}, not {name}");
        let run = [&["run", "--rm", "--read-only"], &snapshotter[..], &[&name, id, "/netd", "--version"]].concat();
        let said = containerd.ctr(&run)?;
        ensure!(said.trim() == format!("netd {}", env!("CARGO_PKG_VERSION")), "the container said {said:?}");
        containerd.ctr(&["images", "rm", "--sync", &name])?;
    }
    Ok(())
}
