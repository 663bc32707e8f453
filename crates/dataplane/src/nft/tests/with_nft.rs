//! Against `nft` itself: it takes what we print, and prints what we write.

use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// Runs `nft` in the calling thread's namespace, and gives what it prints. It must not complain.
pub(super) fn nft(arguments: &[&str], stdin: &str) -> String {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nft: install the package nftables");
    child.stdin.take().expect("its stdin").write_all(stdin.as_bytes()).expect("nft to read");
    let output = child.wait_with_output().expect("nft to end");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "nft takes this: {complaint}\n{stdin}");
    String::from_utf8(output.stdout).expect("text")
}

pub(super) fn paste(text: &str) {
    nft(&["-f", "-"], text);
}

#[test]
fn a_pasted_table_is_the_value() {
    let table = sample();
    let read = with_socket(|socket| {
        paste(&table.to_string());
        socket.read_table(TableFamily::Inet, "netd").expect("a readable table").expect("a table")
    });
    similar(&read, &table);
}

/// Compares texts, of which a difference can be read, before the values.
pub(super) fn similar(read: &Table, table: &Table) {
    assert_eq!(read.to_string(), table.to_string(), "nft made of the text what it says");
    assert_eq!(read, table, "the values are the same as well");
}

#[test]
fn nft_lists_what_we_wrote() {
    let mut table = sample();
    // What is left of its time is printed with an element.
    table.sets.get_mut("clients").expect("the map").elements.clear();
    let listed = with_socket(|socket| {
        socket.apply(&[Operation::ReplaceTable(table)]).expect("the table");
        nft(&["list", "ruleset"], "")
    });
    assert_eq!(listed, include_str!("listed.nft"), "an operator reads this");
}

#[test]
fn what_we_print_is_this() {
    assert_eq!(sample().to_string() + "\n", include_str!("printed.nft"), "an operator reads and pastes this");
}

#[test]
fn pasted_changes_do_what_applied_ones_do() {
    let id = TableId::new(TableFamily::Inet, "t");
    let chain = || "c".to_owned();
    let rule = |mark| Rule::new([Statement::SetMark(Expression::Value(Value::Mark(mark)))]).with_comment("a comment");
    let elements = |keys: &[&str]| Elements {
        table: id.clone(),
        set: "s".into(),
        flags: SetFlags::INTERVAL,
        elements: keys.iter().map(|text| (Key::from(prefix(text)), Element::default())).collect(),
    };
    let set = Set::of([Type::Address(V4)]).with_flags(SetFlags::INTERVAL).with_keys([prefix("10.0.0.0/8")]);
    let table = Table::new(TableFamily::Inet, "t")
        .with_chain("c", Chain::base(ChainType::Filter, Hook::Input, -300).with_rules([rule(1), rule(2)]))
        .with_chain("gone", Chain::regular())
        .with_set("m", Set::map([Type::Mark], DataType::Verdict))
        .with_set("s", set);
    let changes = [
        Operation::AddTable(id.clone()),
        Operation::ReplaceTable(table),
        Operation::AddRule { table: id.clone(), chain: chain(), rule: rule(3) },
        Operation::InsertRule { table: id.clone(), chain: chain(), rule: rule(4) },
        Operation::AddElements(elements(&["172.16.0.0/12", "192.168.7.0/24", "192.168.9.1/32"])),
        Operation::DeleteElements(elements(&["10.0.0.0/8", "192.168.9.1/32"])),
        Operation::DeleteChain { table: id.clone(), name: "gone".into() },
        // The first rule to be made in this table.
        Operation::DeleteRule { table: id.clone(), chain: chain(), handle: 3 },
        Operation::AddTable(TableId::new(TableFamily::Ip6, "u")),
        Operation::DeleteTable(TableId::new(TableFamily::Ip6, "u")),
    ];
    let [pasted, applied] = [true, false].map(|paste_them| {
        with_socket(|socket| {
            for change in &changes {
                let change = match change {
                    Operation::DeleteRule { table, chain, .. } => {
                        let placed = socket.read_rules(table.family, &table.name, chain).expect("rules");
                        Operation::DeleteRule { table: table.clone(), chain: chain.clone(), handle: placed[1].handle }
                    }
                    other => other.clone(),
                };
                if paste_them { paste(&change.to_string()) } else { socket.apply(&[change]).expect("a change") }
            }
            socket.read_table(TableFamily::Inet, "t").expect("a readable table").expect("a table")
        })
    });
    similar(&pasted, &applied);
    assert_eq!(applied.chains["c"].rules, [rule(4), rule(2), rule(3)], "inserted, deleted, added");
}

/// Rules that other programs leave behind are read, though not understood, and are equal to nothing of ours.
#[test]
fn a_foreign_table_is_read() {
    let text = "table inet foreign {
        map m { type ipv4_addr : verdict; flags interval; elements = { 10.0.0.0/8 : accept, * : drop }; }
        set limited { type ipv4_addr; flags dynamic; size 5; }
        ct helper ftp { type \"ftp\" protocol tcp; }
        chain c {
            type filter hook input priority 0; policy drop;
            ip ttl 64 accept
            ct state vmap { established : accept, invalid : drop }
            tcp flags syn limit rate 5/second log prefix \"x\" accept
            ip saddr 10.0.0.0/8 tcp dport { 22, 80-90 } counter accept
            ip saddr vmap @m
            meta mark set numgen random mod 3
            ip daddr . tcp dport { 10.0.0.1 . 80 } reject with tcp reset
        }
    }";
    let read = with_socket(|socket| {
        paste(text);
        socket.read_table(TableFamily::Inet, "foreign").expect("a readable table").expect("a table")
    });
    let rules = &read.chains["c"].rules;
    assert_eq!(rules.len(), 7, "each rule is there");
    let is_opaque = |statement: &Statement| matches!(statement, Statement::Opaque { .. });
    assert!(rules[0].statements.iter().any(is_opaque), "the TTL is not taken for a part of an IPv6 address: {rules:?}");
    assert_eq!(rules[3].statements.len(), 6, "what is modelled is read: {:?}", rules[3]);
    let refused = with_socket(|socket| socket.apply(&[Operation::ReplaceTable(read.clone())]));
    assert!(matches!(refused, Err(Error::Invalid(_))), "what is not understood is not written: {refused:?}");
}

#[test]
fn any_pasted_table_is_the_value() {
    with_socket(|socket| {
        let socket = std::cell::RefCell::new(socket);
        let cases = Config { cases: 40, failure_persistence: None, ..Config::default() };
        let outcome = TestRunner::new(cases).run(&random::table(), |table| {
            let table = speakable(table);
            paste(&Operation::ReplaceTable(table.clone()).to_string());
            let read = socket.borrow_mut().read_table(TableFamily::Inet, "any").expect("a readable table");
            prop_assert_eq!(&read, &Some(table.clone()), "nft made of the text what it says: {}", table);
            Ok(())
        });
        outcome.expect("any table to be the same again");
    });
}

/// Without the few things that the language cannot say as exactly as the kernel.
fn speakable(mut table: Table) -> Table {
    for chain in table.chains.values_mut() {
        chain.rules.retain(|rule| !rule.statements.is_empty());
    }
    for rule in table.chains.values_mut().flat_map(|chain| &mut chain.rules) {
        for statement in &mut rule.statements {
            // `nft` turns the bits over in what they are compared with instead.
            if let Statement::Compare { left: Expression::Bits { xor, .. }, .. } = statement {
                *xor = 0;
            }
        }
        // `nft` 1.0.6 reads neighbouring fields of a header as one, even where each is compared with `!=`.
        let mut whole_fields = 0;
        rule.statements.retain(|statement| {
            whole_fields += usize::from(reads_a_whole_field(statement));
            whole_fields < 2
        });
        rule.comment = rule.comment.take().map(|comment| comment.replace('"', "'"));
    }
    table.comment = table.comment.map(|comment| comment.replace('"', "'"));
    table
}

fn reads_a_whole_field(statement: &Statement) -> bool {
    match statement {
        Statement::Compare { left: Expression::Port(_), .. } => true,
        Statement::Compare { right: Operand::Prefix(prefix), .. } => prefix.len() == prefix.family().bits(),
        _ => false,
    }
}

/// A host's firewall by iptables: our rule passes its drop, and `iptables` goes on working beside it.
#[test]
fn iptables_lists_a_rule_of_ours_as_one_of_its_own() {
    let iptables = |arguments: &[&str]| {
        let output = Command::new("iptables-nft").args(arguments).output().expect("iptables-nft: install iptables");
        assert!(output.status.success() && output.stderr.is_empty(), "iptables takes this: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let rule = |side, text: &str| {
        Rule::new([
            Statement::eq(Expression::Address(V4, side), prefix(text)),
            Statement::Counter,
            Verdict::Accept.into(),
        ])
        .with_comment("netd forward")
    };
    let (from, to) = (rule(Side::Source, "10.244.0.0/16"), rule(Side::Destination, "10.244.0.0/15"));
    with_socket(|socket| {
        iptables(&["-P", "FORWARD", "DROP"]);
        iptables(&["-A", "FORWARD", "-i", "docker0", "-m", "conntrack", "--ctstate", "NEW", "-j", "DROP"]);
        let dropping = socket
            .base_chains()
            .expect("base chains")
            .into_iter()
            .find(|chain| chain.base.hook == Hook::Forward && chain.base.policy == Policy::Drop);
        let BaseChainFacts { table, chain, .. } = dropping.expect("the policy drop is seen");
        let insert = |rule| Operation::InsertRule { table: table.clone(), chain: chain.clone(), rule };
        socket.apply(&[insert(to.clone()), insert(from.clone())]).expect("rules of ours");
        let listed = iptables(&["-S", "FORWARD"]);
        assert_eq!(
            listed,
            "-P FORWARD DROP\n\
             -A FORWARD -s 10.244.0.0/16 -m comment --comment \"netd forward\" -j ACCEPT\n\
             -A FORWARD -d 10.244.0.0/15 -m comment --comment \"netd forward\" -j ACCEPT\n\
             -A FORWARD -i docker0 -m conntrack --ctstate NEW -j DROP\n",
            "ours come first, and iptables knows them"
        );
        iptables(&["-I", "FORWARD", "-j", "ACCEPT"]);
        let placed = socket.read_rules(table.family, &table.name, &chain).expect("rules");
        let ours: Vec<_> = placed.into_iter().filter(|placed| [&from, &to].contains(&&placed.rule)).collect();
        assert_eq!(ours.len(), 2, "after a change by iptables ours still read as what they are");
        let delete = |placed: &RuleWithHandle| Operation::DeleteRule {
            table: table.clone(),
            chain: chain.clone(),
            handle: placed.handle,
        };
        socket.apply(&ours.iter().map(delete).collect::<Vec<_>>()).expect("our rules go");
        assert!(!iptables(&["-S", "FORWARD"]).contains("netd"), "nothing of ours is left");
    });
}
