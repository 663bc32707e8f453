//! The size of structs, read from the source: a struct of the daemon with many fields is several things in one.

use netd_tests::Outcome;

use super::{Source, none, sources};

const MOST: usize = 10;

/// The fields of a struct are the lines of its body that begin with a name and a colon. The configuration is left out: it has
/// as many fields as the program has flags.
pub(super) fn at_most_ten() -> Outcome {
    let sources = sources()?;
    let of_daemon = |source: &&Source| source.name.starts_with("netd/src/") && !source.is_test();
    let mut faults = Vec::new();
    for source in sources.iter().filter(of_daemon).filter(|source| !source.is_in("netd/src/config")) {
        let mut current: Option<(&str, &str, usize)> = None;
        for (_, line) in source.code() {
            let indent = &line[..line.len() - line.trim_start().len()];
            match &mut current {
                None => {
                    let named = line.split("struct ").nth(1).filter(|_| line.trim_end().ends_with('{'));
                    let begins = line.trim_start().starts_with("pub") || line.trim_start().starts_with("struct ");
                    current = named.filter(|_| begins).map(|rest| {
                        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                        (&rest[..end], indent, 0)
                    });
                }
                Some((name, outer, fields)) if line.trim() == "}" && indent == *outer => {
                    if *fields > MOST {
                        faults.push(format!("{}: {name} has {fields} fields; {MOST} are allowed", source.name));
                    }
                    current = None;
                }
                Some((_, outer, fields)) => {
                    let is_field = indent.len() == outer.len() + 4 && is_field(line.trim_start());
                    *fields += usize::from(is_field);
                }
            }
        }
    }
    none(&faults)
}

/// True for `name: Type`, `pub name: Type` and `pub(crate) name: Type`.
fn is_field(line: &str) -> bool {
    let line = match line.strip_prefix("pub") {
        Some(rest) => rest.find(' ').map_or(rest, |space| rest[space..].trim_start()),
        None => line,
    };
    let name = line.split(':').next().unwrap_or_default();
    line.contains(": ") && !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}
