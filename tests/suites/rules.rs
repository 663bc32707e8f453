//! The rules of the design that a program can check: who may depend on whom, which rooms are pure, where `unsafe` may
//! be, and how files are shaped.

#[path = "rules/fields.rs"]
mod fields;
#[path = "rules/modules.rs"]
mod modules;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};
use netd_tests::suite::test;
use netd_tests::{Context, Failure, Outcome, ensure, fail};
use serde_json::Value;

type Rule = (&'static str, fn() -> Outcome);

fn main() -> ExitCode {
    let rules: [Rule; 12] = [
        ("dependencies point one way", direction),
        ("modules form no circle", modules::no_circles),
        ("modules do not use what the design forbids", modules::no_forbidden_arrow),
        ("no struct of the daemon has more than ten fields", fields::at_most_ten),
        ("the kernel edge and the plugin know no Kubernetes", no_kubernetes),
        ("pure rooms do no I/O", pure_rooms),
        ("the wall clock decides nothing", wall_clock),
        ("unsafe is in dataplane alone", unsafe_code),
        ("modules say what they are", module_heads),
        ("files are short and well named", file_shape),
        ("nothing is left for later", leftovers),
        ("backends are told apart in one place", backends),
    ];
    let trials: Vec<Trial> = rules.into_iter().map(|(name, rule)| test(name, rule)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Which workspace crates each may use, in what it ships. The suites may link a program to fuzz its parsers.
const MAY_USE: [(&str, &[&str]); 9] = [
    ("apiserver", &[]),
    ("dataplane", &[]),
    ("netd-cni", &["dataplane"]),
    ("network", &["dataplane", "reconcile"]),
    ("reconcile", &["dataplane"]),
    ("listener", &[]),
    ("netd", &["apiserver", "dataplane", "listener", "netd-cni", "netd-proxy", "network", "reconcile"]),
    ("netd-proxy", &["apiserver", "dataplane", "listener", "reconcile"]),
    ("netd-tests", &["dataplane"]),
];

/// Rooms that the design wants pure: values become values, and nothing else happens. `conf` stands for `conf.rs` and
/// `conf/`. Beside them, every module is held to it whose head says that it is pure.
const PURE: [&str; 20] = [
    "cni-plugin/src/attachment",
    "cni-plugin/src/call",
    "cni-plugin/src/conf",
    "cni-plugin/src/ipam/range",
    "cni-plugin/src/result",
    "crates/dataplane/src/nft/encode",
    "crates/dataplane/src/nft/text",
    "crates/dataplane/src/op",
    "crates/dataplane/src/types",
    "crates/network/src/allocation",
    "crates/network/src/interface",
    "crates/network/src/model",
    "crates/network/src/net_conf",
    "crates/network/src/overlay",
    "crates/network/src/plan",
    "crates/network/src/record",
    "netd/src/config",
    "netd/src/store/kube/annotations",
    "netd/src/store/kube/keys",
    "netd/src/store/kube/object",
];

/// Words that only code with a side effect needs.
const IMPURE: [&str; 18] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::io::std",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "File::",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "Instant::now",
    "tokio",
    "tracing",
    "rand::",
    "nix::",
    "println!",
];

/// How the clock that people set is read.
const WALL_CLOCKS: [&str; 4] = ["SystemTime", "CLOCK_REALTIME", "Timestamp::now", "Zoned::now"];

/// Who may read the clock that people set, and why a jump of it does no harm there.
const WALL_CLOCK: [(&str, &str); 6] = [
    ("crates/apiserver/src/event_recorder.rs", "the times of Events that people are shown"),
    ("netd/src/clock.rs", "points in time and ages that people read"),
    ("cni-plugin/src/ipam/index.rs", "a timestamp that no file has; another one means that the files are read"),
    ("cni-plugin/src/ipam/directory.rs", "how old a reservation is that has no pod"),
    ("proxy/src/health.rs", "the times of answers that people read"),
    ("proxy/src/app.rs", "the time of the last run that people read, and how long ago the control plane saw a change"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above").to_owned()
}

fn direction() -> Outcome {
    let metadata = cargo(&["metadata", "--format-version=1", "--no-deps", "--offline"])?;
    let metadata: Value = serde_json::from_str(&metadata).context("read cargo's metadata")?;
    let packages = metadata["packages"].as_array().context("cargo lists no packages")?;
    let members: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let allowed = rules.get(name).context(format!("{name} is new: say in MAY_USE what it may use"))?;
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let shipped = dependency["kind"] != "dev";
            // A crate may switch on features of its own for its tests.
            let is_itself = used == name && !shipped;
            let wrong =
                members.contains(&used) && !allowed.contains(&used) && !is_itself && (shipped || name != "netd-tests");
            ensure!(!wrong, "{name} must not depend on {used}");
        }
    }
    Ok(())
}

fn no_kubernetes() -> Outcome {
    for package in ["dataplane", "netd-cni", "network"] {
        let tree = cargo(&["tree", "--offline", "--package", package, "--edges", "normal", "--prefix", "none"])?;
        let found = tree.lines().find(|line| line.starts_with("kube") || line.starts_with("k8s-"));
        ensure!(found.is_none(), "{package} depends on {}", found.unwrap_or_default());
    }
    Ok(())
}

fn cargo(arguments: &[&str]) -> Outcome<String> {
    let output = Command::new("cargo").args(arguments).current_dir(root()).output().context("run cargo")?;
    netd_tests::namespace::printed("cargo", &output)
}

fn pure_rooms() -> Outcome {
    let sources = sources()?;
    for room in PURE {
        ensure!(sources.iter().any(|source| source.is_in(room)), "there is no room {room}: correct PURE");
    }
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        if !source.says_pure() && !PURE.iter().any(|room| source.is_in(room)) {
            continue;
        }
        for (number, line) in source.code() {
            let found = IMPURE.iter().find(|word| names(line, word));
            faults.extend(found.map(|word| format!("{}:{number} uses {word}", source.name)));
        }
    }
    none(&faults)
}

/// True where `word` stands in `line` and is not the end of a longer one.
fn names(line: &str, word: &str) -> bool {
    let ends_a_word = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(place, _)| !ends_a_word(&line[..place]))
}

fn wall_clock() -> Outcome {
    let sources = sources()?;
    let reads = |source: &Source| source.code().any(|(_, line)| WALL_CLOCKS.iter().any(|clock| names(line, clock)));
    let mut faults = Vec::new();
    for (name, why) in WALL_CLOCK {
        let there = sources.iter().any(|source| source.name == name && reads(source));
        ensure!(there, "{name} does not read the wall clock any more ({why}): correct WALL_CLOCK");
    }
    for source in sources.iter().filter(|source| !source.is_test() && !source.name.starts_with("tests/")) {
        if reads(source) && !WALL_CLOCK.iter().any(|(name, _)| *name == source.name) {
            faults.push(format!(
                "{} reads the wall clock: take the monotonic one, or say why in WALL_CLOCK",
                source.name
            ));
        }
    }
    none(&faults)
}

fn unsafe_code() -> Outcome {
    let mut faults = Vec::new();
    for source in sources()?.iter().filter(|source| !source.name.starts_with("crates/dataplane/")) {
        let root = source.name.ends_with("/src/lib.rs") || source.name.ends_with("/src/main.rs");
        if root && !source.text.contains("#![forbid(unsafe_code)]") {
            faults.push(format!("{} lacks #![forbid(unsafe_code)]", source.name));
        }
    }
    none(&faults)
}

fn module_heads() -> Outcome {
    let faults: Vec<String> = sources()?
        .iter()
        .filter(|source| !source.is_test() && !source.text.starts_with("//! "))
        .map(|source| format!("{} does not open with //!", source.name))
        .collect();
    none(&faults)
}

fn file_shape() -> Outcome {
    let mut faults = Vec::new();
    for source in sources()? {
        let lines = source.code().count();
        if lines > 400 {
            faults.push(format!("{} has {lines} lines of code; 400 are allowed", source.name));
        }
        let stem = Path::new(&source.name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if ["mod", "util", "utils", "common", "helper", "helpers", "manager"].contains(&stem.as_str()) {
            faults.push(format!("{}: no file is called {stem}", source.name));
        }
    }
    none(&faults)
}

/// Counts the functions that name a backend, a kind of tunnel device or an encapsulation, in code or in texts, outside the files that tell
/// them apart. A function ends where rustfmt puts its brace: in the column where it begins.
fn backends() -> Outcome {
    const MOST: usize = 5;
    const ROOMS: [&str; 3] = ["crates/dataplane/src", "crates/network/src/backend", "crates/network/src/fixtures"];
    const WORDS: [&str; 5] = ["vxlan", "vtep", "ipip", "hostgw", "host_gw"];
    const ENUMS: [&str; 5] = ["Backend::", "BackendType::", "Encapsulation::", "NoPeerRoute::", "Tunnel::"];
    let names_one = |line: &str| {
        let variant = |of: &str| line.split(of).skip(1).any(|rest| rest.starts_with(char::is_uppercase));
        WORDS.iter().any(|word| line.to_lowercase().contains(word)) || ENUMS.iter().any(|of| variant(of))
    };
    let mut found = Vec::new();
    for source in sources()? {
        let is_of_product = ["crates/", "netd/", "cni-plugin/"].iter().any(|room| source.name.starts_with(room));
        if source.is_test() || !is_of_product || ROOMS.iter().any(|room| source.is_in(room)) {
            continue;
        }
        let mut function: Option<(usize, String, bool)> = None;
        for (number, line) in source.code() {
            let indent = line.len() - line.trim_start().len();
            let starts = line.trim_start().starts_with("fn ") || line.contains(" fn ");
            if starts && function.is_none() {
                function = Some((indent, format!("{}:{number}", source.name), false));
            }
            let Some((column, place, named)) = &mut function else { continue };
            *named |= names_one(line);
            if indent == *column && (line.trim() == "}" || line.ends_with([';', '}'])) {
                found.extend(named.then(|| place.clone()));
                function = None;
            }
        }
    }
    ensure!(found.len() <= MOST, "{} functions name a backend, {MOST} may:\n{}", found.len(), found.join("\n"));
    Ok(())
}

fn leftovers() -> Outcome {
    // In pieces, so that this file does not find itself.
    let words = [concat!("todo", "!("), concat!("FIX", "ME"), concat!("TO", "DO"), concat!("#[", "ignore")];
    let sleep = concat!("thread::", "sleep");
    let mut faults = Vec::new();
    for source in sources()? {
        // A test waits for what it needs, never for a time.
        let waits = source.is_test() || source.name.starts_with("tests/");
        for (number, line) in (1..).zip(source.text.lines()) {
            let found = words.iter().chain(waits.then_some(&sleep)).find(|word| line.contains(**word));
            faults.extend(found.map(|word| format!("{}:{number} has {word}", source.name)));
        }
    }
    none(&faults)
}

fn none(faults: &[String]) -> Outcome {
    if faults.is_empty() {
        return Ok(());
    }
    Err(Failure::new(faults.join("\n")))
}

/// A Rust file of the workspace, named from its root.
struct Source {
    name: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.name.ends_with("/tests.rs") || self.name.contains("/tests/")
    }

    fn is_in(&self, room: &str) -> bool {
        let rest = self.name.strip_prefix(room);
        rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    }

    fn says_pure(&self) -> bool {
        let head = self.text.lines().take_while(|line| line.starts_with("//!"));
        head.flat_map(|line| line.split_whitespace()).any(|word| word.trim_end_matches([',', '.', ':']) == "Pure")
    }

    /// Lines with code on them, numbered from 1, without their comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines()).filter_map(|(number, line)| {
            let code = if line.trim_start().starts_with("//") { "" } else { line.split(" // ").next().unwrap_or(line) };
            (!code.trim().is_empty()).then_some((number, code))
        })
    }
}

fn sources() -> Outcome<Vec<Source>> {
    let root = root();
    let mut sources = Vec::new();
    for member in ["crates", "cni-plugin", "netd", "proxy", "tests"] {
        let folder = root.join(member);
        if folder.is_dir() {
            collect(&root, &folder, &mut sources)?;
        }
    }
    if sources.is_empty() {
        fail!("no source file under {}", root.display());
    }
    Ok(sources)
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) -> Outcome {
    for entry in std::fs::read_dir(folder).context(format!("list {}", folder.display()))? {
        let path = entry.context("list a folder")?.path();
        if path.is_dir() {
            collect(root, &path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).context(format!("read {}", path.display()))?;
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            sources.push(Source { name, text });
        }
    }
    Ok(())
}
