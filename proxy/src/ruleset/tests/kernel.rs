//! The tables in the real kernel.

use std::process::{Command, Stdio};

use dataplane::netns;
use dataplane::nft::{Operation, Socket, Table};

use super::cases::World;

fn tables(world: &World) -> Vec<Table> {
    world.rulesets.iter().map(super::super::Ruleset::table).collect()
}

fn nft(arguments: &[&str]) -> String {
    let output = Command::new("nft").args(arguments).stderr(Stdio::inherit()).output().expect("nft");
    assert!(output.status.success(), "nft {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_kernel_takes_the_tables_and_nft_can_load_what_it_lists() {
    let mut world = World::new();
    for file in ["f6.yaml", "f3.yaml", "f4.yaml", "f2.yaml", "affinity.yaml"] {
        world.apply_file(file);
    }
    world.set("loopback", &["true"]);
    let tables = tables(&world);
    netns::scratch(|| {
        let mut socket = Socket::open().expect("a socket");
        let operations: Vec<_> = tables.iter().cloned().map(Operation::ReplaceTable).collect();
        socket.apply(&operations).expect("tables that the kernel takes");
        let read = |socket: &mut Socket, table: &Table| {
            socket.read_table(table.id.family, &table.id.name).expect("a readable table")
        };
        for table in &tables {
            assert_eq!(read(&mut socket, table).as_ref(), Some(table), "the kernel holds what was written");
        }
        let listed = nft(&["list", "ruleset"]);
        nft(&["flush", "ruleset"]);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ruleset.nft");
        std::fs::write(&file, &listed).expect("a file");
        nft(&["-f", file.to_str().expect("a path")]);
        assert_eq!(nft(&["list", "ruleset"]), listed, "what nft lists, nft loads");
        for table in &tables {
            assert_eq!(read(&mut socket, table).as_ref(), Some(table), "what nft loaded is the table");
        }
    })
    .expect("a namespace");
}
