//! `scripts/bench cni`: ADD and DEL of the plugin against the reference's bridge + host-local, in one run.
//!
//! Both do the same work in the same namespace, in turns of a block each. It prints medians and ratios and decides
//! nothing. Each call is timed from the start of the process until it has ended and its output is read.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dataplane::netns;
use netd_tests::deadline::sleep;
use netd_tests::failure::{Context, Failure, Outcome};
use netd_tests::{binaries, fail, isolation};
use serde_json::{Value, json};

/// Calls of each kind in a block; fewer in a full network, where the reference takes 0.2 s for each.
const BLOCK: usize = 50;
const BLOCK_WHEN_FULL: usize = 15;
/// How many blocks each plugin has, in turns.
const BLOCKS: usize = 4;
const PARALLEL: usize = 8;
/// How full a full network is.
const TAKEN: u32 = 20_000;
const REFERENCE: &str = "/usr/lib/cni";

fn main() -> ExitCode {
    isolation::measure(measure)
}

fn measure() -> Outcome {
    let program = binaries::plugin()?;
    let size = std::fs::metadata(&program).context("find the plugin")?.len();
    println!("plugin: {} ({:.2} MB)", program.display(), MEGA.recip() * to_f64(size));
    println!(
        "reference: {REFERENCE}/bridge + host-local; {BLOCKS} blocks of {BLOCK} ({BLOCK_WHEN_FULL}) pods each, in turns\n"
    );
    println!("{:<34} {:>17} {:>17} {:>8}", "ms, p50 (p10-p90)", "netd", "reference", "ratio");
    // On a disk, as nodes have them.
    let folder = tempfile::tempdir_in("/tmp").context("make a folder for the reservations")?;
    let mut empty = None;
    for taken in [0, TAKEN] {
        let ours = Plugin::new("netd", &program, folder.path(), taken)?;
        let reference = Plugin::new("bridge", &Path::new(REFERENCE).join("bridge"), folder.path(), taken)?;
        let first = ours.attach("first", |attachment| attachment.timed("ADD"))?;
        ours.attach("second", |attachment| attachment.timed("DEL"))?;
        let [one, two] = in_turns(&ours, &reference, Plugin::sequential)?;
        let label = format!("{taken} taken, sequential");
        row(&format!("ADD, {label}"), &one.add, &two.add);
        row(&format!("DEL, {label}"), &one.del, &two.del);
        let median = percentile(&one.add, 50);
        match empty {
            None => empty = Some(median),
            Some(empty) => println!("  ADD with {taken} taken against empty: {:.2}x", ratio(median, empty)),
        }
        println!("  first ADD on this state (reads every reservation once): {:.1} ms", millis(first));
        let [one, two] = in_turns(&ours, &reference, Plugin::parallel)?;
        let label = format!("{taken} taken, {PARALLEL} parallel");
        row(&format!("ADD, {label}"), &one.add, &two.add);
        row(&format!("DEL, {label}"), &one.del, &two.del);
        println!(
            "  {PARALLEL} parallel, a second: ADD {:.0} against {:.0}, DEL {:.0} against {:.0}",
            one.add_rate, two.add_rate, one.del_rate, two.del_rate
        );
    }
    Ok(())
}

/// A plugin with its network.
struct Plugin {
    program: PathBuf,
    conf: Value,
    kind: &'static str,
    block: usize,
}

/// What some blocks took.
#[derive(Default)]
struct Times {
    add: Vec<Duration>,
    del: Vec<Duration>,
    add_rate: f64,
    del_rate: f64,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Plugin {
    fn new(kind: &'static str, program: &Path, folder: &Path, taken: u32) -> Outcome<Self> {
        if !program.is_file() {
            fail!("{} is missing: install Debian's package containernetworking-plugins", program.display());
        }
        let second = if kind == "netd" { 9 } else { 10 };
        let conf = json!({
            "cniVersion": "1.0.0", "name": format!("bench-{kind}-{taken}"), "type": kind,
            "bridge": format!("{}br{}", &kind[..1], taken.min(1)),
            "isGateway": true, "isDefaultGateway": true, "hairpinMode": true, "forceAddress": true,
            "ipam": {
                "type": "host-local", "dataDir": folder,
                "subnet": format!("10.{second}{}.0.0/16", taken.min(1)),
            },
        });
        let reservations = folder.join(format!("bench-{kind}-{taken}"));
        std::fs::create_dir(&reservations).context("make the directory of reservations")?;
        let mut last = String::new();
        for number in 2..taken + 2 {
            let [_, _, third, fourth] = number.to_be_bytes();
            last = format!("10.{second}{}.{third}.{fourth}", taken.min(1));
            std::fs::write(reservations.join(&last), format!("taken{number}\r\neth0"))
                .context("write a reservation")?;
        }
        if !last.is_empty() {
            std::fs::write(reservations.join("last_reserved_ip.0"), last).context("write the last address")?;
        }
        let block = if taken == 0 { BLOCK } else { BLOCK_WHEN_FULL };
        Ok(Self { program: program.to_owned(), conf, kind, block })
    }

    /// One block, one pod after the other.
    fn sequential(&self, times: &mut Times) -> Outcome {
        let attachments = self.attachments(self.block)?;
        for attachment in &attachments {
            times.add.push(attachment.timed("ADD")?);
        }
        for attachment in &attachments {
            times.del.push(attachment.timed("DEL")?);
        }
        Ok(())
    }

    /// One block, several pods at once.
    fn parallel(&self, times: &mut Times) -> Outcome {
        let attachments = self.attachments(self.block * 2)?;
        let (add, took) = at_once(&attachments, "ADD")?;
        times.add.extend(add);
        times.add_rate += to_f64(attachments.len() as u64) / took.as_secs_f64() / to_f64(BLOCKS as u64);
        let (del, took) = at_once(&attachments, "DEL")?;
        times.del.extend(del);
        times.del_rate += to_f64(attachments.len() as u64) / took.as_secs_f64() / to_f64(BLOCKS as u64);
        Ok(())
    }

    fn attachments(&self, count: usize) -> Outcome<Vec<Attachment<'_>>> {
        (0..count).map(|_| Attachment::new(self)).collect()
    }

    fn attach<T>(&self, what: &str, body: impl FnOnce(&Attachment<'_>) -> Outcome<T>) -> Outcome<T> {
        body(&Attachment::new(self).context(what)?)
    }
}

/// One pod's namespace and how the plugin is called for it.
struct Attachment<'a> {
    plugin: &'a Plugin,
    name: String,
    netns: PathBuf,
}

impl<'a> Attachment<'a> {
    fn new(plugin: &'a Plugin) -> Outcome<Self> {
        let name = format!("bench-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let netns = netns::create(&name).context("make a namespace")?;
        Ok(Self { plugin, name, netns })
    }

    fn timed(&self, verb: &str) -> Outcome<Duration> {
        let conf = self.plugin.conf.to_string();
        let mut command = Command::new(&self.plugin.program);
        command.env_clear().env("CNI_COMMAND", verb).env("CNI_CONTAINERID", &self.name).env("CNI_IFNAME", "eth0");
        command.env("CNI_NETNS", &self.netns).env("CNI_PATH", REFERENCE);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let begun = Instant::now();
        let mut child = command.spawn().context("start the plugin")?;
        let mut input = child.stdin.take().context("open the plugin's stdin")?;
        input.write_all(conf.as_bytes()).context("write to the plugin")?;
        drop(input);
        let mut answer = String::new();
        let mut output = child.stdout.take().context("open the plugin's stdout")?;
        output.read_to_string(&mut answer).context("read the plugin's answer")?;
        let status = child.wait().context("wait for the plugin")?;
        let took = begun.elapsed();
        if !status.success() {
            fail!("{} {verb} of {} failed: {answer}", self.plugin.kind, self.name);
        }
        Ok(took)
    }
}

impl Drop for Attachment<'_> {
    fn drop(&mut self) {
        // The mount namespace ends with the program and takes along what is left.
        let _ = netns::remove(&self.name);
    }
}

/// All of them, `PARALLEL` at a time; the time of each and of the whole.
fn at_once(attachments: &[Attachment<'_>], verb: &str) -> Outcome<(Vec<Duration>, Duration)> {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let worker = || {
        let mut times = Vec::new();
        while let Some(attachment) = attachments.get(next.fetch_add(1, Ordering::Relaxed)) {
            times.push(attachment.timed(verb)?);
        }
        Ok::<_, Failure>(times)
    };
    let joined: Vec<Outcome<Vec<Duration>>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..PARALLEL).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| fail!("a worker panicked"))).collect()
    });
    let took = begun.elapsed();
    let times = joined.into_iter().collect::<Outcome<Vec<_>>>()?;
    Ok((times.concat(), took))
}

/// Blocks of both in turns, so that whatever else the machine does meets both.
fn in_turns(ours: &Plugin, reference: &Plugin, block: impl Fn(&Plugin, &mut Times) -> Outcome) -> Outcome<[Times; 2]> {
    let mut times = [Times::default(), Times::default()];
    for _ in 0..BLOCKS {
        for (plugin, times) in [ours, reference].into_iter().zip(&mut times) {
            block(plugin, times)?;
            // The kernel is still freeing links when DEL has answered; the other's turn must not pay for it.
            sleep(Duration::from_millis(500));
        }
    }
    Ok(times)
}

const MEGA: f64 = 1_000_000.0;

fn row(label: &str, ours: &[Duration], reference: &[Duration]) {
    let cell = |times: &[Duration]| {
        let [low, middle, high] = [10, 50, 90].map(|percent| millis(percentile(times, percent)));
        format!("{middle:.2} ({low:.1}-{high:.1})")
    };
    let ratio = ratio(percentile(reference, 50), percentile(ours, 50));
    println!("{label:<34} {:>17} {:>17} {ratio:>7.1}x", cell(ours), cell(reference));
}

fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "counts and file sizes are far below 2^52")]
fn to_f64(number: u64) -> f64 {
    number as f64
}
