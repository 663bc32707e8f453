//! The store goes away and comes back with other content.

use std::path::Path;
use std::time::Duration;

use libtest_mimic::Trial;
use netd_tests::suite::{from_the_start, test};
use netd_tests::{Context, Outcome, ensure, peer, seconds, sleep};
use nix::mount::{MsFlags, mount};

use super::bed::{Bed, StorePeer, free_numbers, vxlan};

/// Longer than netd's poll of the store and its comparison with the kernel.
const OUTAGE: Duration = seconds(12);
/// Longer than any wait of netd but that for its next full comparison.
const LONG_OUTAGE: Duration = seconds(130);

type Absence = fn(&Bed) -> Outcome;
type Return = fn(&Bed) -> Outcome;

pub(crate) fn trials() -> Vec<Trial> {
    let absences: [(&str, Absence, Return); 4] = [
        ("it is renamed", rename_away, rename_back),
        ("it is replaced by an empty folder", replace, rename_back),
        ("it is hidden by an empty mount", hide, unhide),
        ("every record is deleted", delete, |_| Ok(())),
    ];
    let trials = absences.map(|(name, away, back)| {
        test(format!("a store that goes away and comes back with other content/{name}"), move || {
            outage(away, OUTAGE, back)
        })
    });
    trials.into()
}

pub(crate) fn long() -> Trial {
    from_the_start("a store that goes away for two minutes and comes back with other content", || {
        outage(rename_away, LONG_OUTAGE, rename_back)
    })
}

fn aside(bed: &Bed) -> std::path::PathBuf {
    bed.cluster.fabric.disk().join("aside")
}

fn rename_away(bed: &Bed) -> Outcome {
    std::fs::rename(&bed.cluster.fabric.store, aside(bed)).context("take the store away")
}

fn replace(bed: &Bed) -> Outcome {
    rename_away(bed)?;
    std::fs::create_dir(&bed.cluster.fabric.store).context("make an empty store")
}

fn rename_back(bed: &Bed) -> Outcome {
    let store = &bed.cluster.fabric.store;
    if store.exists() {
        std::fs::remove_dir_all(store).context("remove the empty store")?;
    }
    std::fs::rename(aside(bed), store).context("bring the store back")
}

fn hide(bed: &Bed) -> Outcome {
    std::fs::create_dir(aside(bed)).context("make a folder")?;
    let bind = |from: &Path, to: &Path| mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    bind(&bed.cluster.fabric.store, &aside(bed)).context("keep the store in sight")?;
    mount(Some("tmpfs"), &bed.cluster.fabric.store, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .context("hide the store")
}

fn unhide(bed: &Bed) -> Outcome {
    nix::mount::umount(&bed.cluster.fabric.store).context("show the store")
}

fn delete(bed: &Bed) -> Outcome {
    let nodes = bed.cluster.fabric.store.join("nodes");
    let copy = aside(bed);
    std::fs::create_dir_all(copy.join("nodes")).context("make a folder")?;
    for entry in std::fs::read_dir(&nodes).context("list the store")? {
        std::fs::remove_file(entry.context("list the store")?.path()).context("delete a record")?;
    }
    Ok(())
}

fn outage(away: Absence, length: Duration, back: Return) -> Outcome {
    let bed = Bed::new(&vxlan())?;
    let store = bed.cluster.fabric.store.clone();
    let numbers = free_numbers(&bed.cluster)?;
    let store_peer = |place: usize, host: u8| StorePeer { number: numbers[place], host };
    let [stays, leaves, moves] = [store_peer(0, 100), store_peer(1, 101), store_peer(2, 102)];
    for store_peer in [stays, leaves, moves] {
        store_peer.write(&store)?;
    }
    bed.knows(&[stays, leaves, moves])?;
    bed.under_load(|| {
        away(&bed)?;
        sleep(length);
        back(&bed)?;
        // The other content.
        let after = [stays, StorePeer { host: 103, ..moves }, store_peer(3, 104)];
        if peer::file(&store, &leaves.name()).exists() {
            leaves.remove(&store)?;
        }
        for store_peer in after {
            store_peer.write(&store)?;
        }
        bed.knows(&after)?;
        for name in ["n1", "n2"] {
            let record = peer::read(&store, name)?;
            ensure!(record["Subnet"].is_string(), "the record of {name} is {record}");
        }
        let warned = bed.warned("");
        ensure!(warned.len() <= 2, "it was logged more than once:\n{}", warned.join("\n"));
        bed.rests()
    })
}
