//! What a runtime, or anybody, may get wrong: environment, stdin, names, namespaces (cases 1 to 16).

use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Outcome, ensure};
use serde_json::json;

use crate::bed::Bed;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("without a verb it says what it is", no_verb),
        test("VERSION answers whatever is on stdin", version),
        test("missing variables are named", missing),
        test("an unknown verb is refused", unknown_verb),
        test("a container's name cannot leave its directory", containers),
        test("interface names are the kernel's", ifnames),
        test("stdin may be anything", stdin),
        test("a network has a name that is a name", network_names),
        test("versions are those that are spoken", versions),
        test("a namespace must be one, and another", namespaces),
        test("fields that ask for too much are refused by name", unsupported),
    ]
}

fn no_verb() -> Outcome {
    let answer = Bed::new()?.call_with("", b"")?;
    ensure!(answer.succeeded && answer.out.is_empty(), "nothing on stdout: {}", answer.out);
    ensure!(answer.err.contains("1.1.0"), "the versions are on stderr: {}", answer.err);
    Ok(())
}

fn version() -> Outcome {
    let bed = Bed::new()?;
    for (stdin, expected) in [("garbage", "1.1.0"), ("", "1.1.0"), (r#"{"cniVersion":"0.4.0"}"#, "0.4.0")] {
        let answer = bed.call_with("VERSION", stdin.as_bytes())?;
        let output = answer.json()?;
        ensure!(answer.succeeded && output["cniVersion"] == expected, "VERSION with {stdin:?}: {output}");
        let count = output["supportedVersions"].as_array().map_or(0, Vec::len);
        ensure!(count == 7, "seven versions are spoken: {output}");
    }
    Ok(())
}

fn missing() -> Outcome {
    let bed = Bed::new()?;
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"] {
        let mut bed = Bed::new()?;
        bed.env.remove(name);
        bed.refused("ADD", &[4], &format!("required env variables [{name}] missing"))?;
        bed.is_clean()?;
    }
    let mut two = bed;
    two.env.remove("CNI_IFNAME");
    two.env.remove("CNI_CONTAINERID");
    two.refused("ADD", &[4], "[CNI_CONTAINERID,CNI_IFNAME]").map(drop)
}

fn unknown_verb() -> Outcome {
    let bed = Bed::new()?;
    bed.refused("FOO", &[4], "unknown CNI_COMMAND")?;
    bed.refused("add", &[4], "unknown CNI_COMMAND").map(drop)
}

fn containers() -> Outcome {
    let mut bed = Bed::new()?;
    for name in ["../../etc/x", "-a", "a b", "ab\n", ""] {
        bed.set("CNI_CONTAINERID", name).refused("ADD", &[4], "")?;
        let files = std::fs::read_dir(bed.disk.path()).map_or(0, Iterator::count);
        ensure!(files == 0, "{name:?} made a file");
    }
    Ok(())
}

fn ifnames() -> Outcome {
    let mut bed = Bed::new()?;
    for name in [".", "..", "a/b", "a:b", "a b", "a\u{a0}b"] {
        bed.set("CNI_IFNAME", name).refused("ADD", &[4], "interface name")?;
    }
    bed.set("CNI_IFNAME", "a234567890123456").refused("ADD", &[4], "too long")?;
    bed.set("CNI_IFNAME", "a23456789012345").succeed("ADD")?;
    bed.quiet("DEL")
}

fn stdin() -> Outcome {
    let bed = Bed::new()?;
    let deep = "[".repeat(10_000_000);
    for (stdin, codes) in [("", [6, 6]), ("{", [6, 6]), ("[]", [6, 6]), ("null", [6, 7]), (deep.as_str(), [6, 6])] {
        let shown: String = stdin.chars().take(10).collect();
        bed.call_with("ADD", stdin.as_bytes())?.refusal(&format!("ADD of {shown:?}"), &codes, "")?;
    }
    bed.is_clean()
}

fn network_names() -> Outcome {
    let mut bed = Bed::new()?;
    for (name, text) in [(json!(null), "missing network name"), (json!("../x"), "invalid characters")] {
        bed.conf["name"] = name;
        bed.refused("ADD", &[7], text)?;
    }
    ensure!(std::fs::read_dir(bed.disk.path()).map_or(0, Iterator::count) == 0, "nothing is written");
    Ok(())
}

fn versions() -> Outcome {
    let mut bed = Bed::new()?;
    bed.conf["cniVersion"] = json!("9.9.9");
    let error = bed.refused("ADD", &[1], "incompatible CNI versions")?;
    let details = error["details"].as_str().unwrap_or_default();
    ensure!(details.contains("9.9.9") && details.contains("0.3.1"), "both versions are named: {error}");
    bed.conf["cniVersion"] = json!("abc");
    bed.refused("ADD", &[1, 6], "")?;
    for (version, verb) in [("0.3.1", "CHECK"), ("1.0.0", "GC"), ("1.0.0", "STATUS")] {
        bed.conf["cniVersion"] = json!(version);
        bed.refused(verb, &[1], &format!("does not allow {verb}"))?;
    }
    Ok(())
}

fn namespaces() -> Outcome {
    let mut bed = Bed::new()?;
    bed.set("CNI_NETNS", "/run/netns/never-made").refused("ADD", &[3, 4], "netns")?;
    bed.set("CNI_NETNS", "/etc/passwd").refused("ADD", &[4], "netns")?;
    let own = bed.node.path().to_string_lossy().into_owned();
    bed.set("CNI_NETNS", own).refused("ADD", &[8], "should not be the same")?;
    ensure!(bed.node.json("ip -j link show type bridge")?.is_empty(), "nothing is done before the check");
    bed.is_clean()?;
    bed.set("CNI_NETNS_OVERRIDE", "1").succeed("ADD")?;
    bed.quiet("DEL")?;
    bed.is_clean()
}

fn unsupported() -> Outcome {
    for (key, value) in [("ipMasq", json!(true)), ("vlan", json!(5)), ("macspoofchk", json!(true))] {
        let mut bed = Bed::new()?;
        bed.conf[key] = value.clone();
        bed.refused("ADD", &[2], &format!("{key} is {value}"))?;
        bed.is_clean()?;
        bed.quiet("DEL")?;
    }
    Ok(())
}
