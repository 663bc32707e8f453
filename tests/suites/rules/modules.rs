//! The direction of modules, read from the paths in each file: no circle, and no arrow that the design forbids.
//!
//! How to check by hand:
//! - A *room* is a file and the folder of its name: `store.rs` and `store/`. The files of one room may use each other's
//!   parent and children freely: `store/dir.rs` may use an item of `store.rs`, and `store.rs` one of `store/dir.rs`.
//! - Beside each other in one folder (or in `src`), room A has an *arrow* to room B where a file of A names something of B:
//!   by `crate::b::…`, `super::b::…` or a name that an enclosing module has imported from B (`pub use b::Name`).
//! - The arrows between the rooms of one folder must form no circle. Tests are left out.

use std::collections::{BTreeMap, BTreeSet};

use netd_tests::{Outcome, ensure};

use super::{Source, none, sources};

/// A module by its names from the crate's root, which has none: `["store", "dir"]`.
type Module = Vec<String>;

/// Arrows of crate `netd` that must not be, by the first folder's rooms, and why.
const FORBIDDEN: [(&str, &str, &str); 4] = [
    ("store", "status", "a store reports; who shows the report is not its business"),
    ("status", "cleanup", "what is shown of a node does not depend on how it is cleaned"),
    ("doctor", "daemon", "the doctor works without a daemon"),
    ("cleanup", "daemon", "cleanup works without a daemon"),
];

/// Rooms beside each other have no circle.
pub(super) fn no_circles() -> Outcome {
    let mut faults = Vec::new();
    for (name, arrows) in crates()?.iter().map(|(name, modules)| (name, arrows(modules))) {
        let mut folders: BTreeMap<&[String], Graph<'_>> = BTreeMap::new();
        for ((from, to), file) in &arrows {
            let folder = &from[..from.len() - 1];
            folders.entry(folder).or_default().insert((last(from), last(to)), file);
        }
        for (folder, graph) in folders {
            let place = if folder.is_empty() { "src".to_owned() } else { format!("src/{}", folder.join("/")) };
            faults.extend(circles(&graph).into_iter().map(|circle| format!("{name}/{place}: {circle}")));
        }
    }
    none(&faults)
}

/// No arrow of [`FORBIDDEN`] is there.
pub(super) fn no_forbidden_arrow() -> Outcome {
    let crates = crates()?;
    let modules = &crates["netd"];
    let mut faults = Vec::new();
    for ((from, to), file) in arrows(modules) {
        let is_it = |(one, other, _): &&(&str, &str, &str)| from == [*one] && to == [*other];
        if let Some((one, other, why)) = FORBIDDEN.iter().find(is_it) {
            faults.push(format!("{file} uses {other}, but {one} must not: {why}"));
        }
    }
    for (one, other, _) in FORBIDDEN {
        for room in [one, other] {
            ensure!(modules.contains_key(&vec![room.to_owned()]), "netd has no module {room}: correct FORBIDDEN");
        }
    }
    none(&faults)
}

/// One module of a crate, as its file has it.
struct File<'a> {
    name: &'a str,
    /// Every path that begins at `crate`, `super` or `self`, or is imported, with its names.
    paths: Vec<Vec<String>>,
    /// What a `use` brings into the module, by the name that it has there.
    imports: BTreeMap<String, Vec<String>>,
}

type Modules<'a> = BTreeMap<Module, File<'a>>;
/// The arrows of one folder, each with a file that shows it.
type Graph<'a> = BTreeMap<(&'a str, &'a str), &'a str>;

fn last(module: &[String]) -> &str {
    module.last().map_or("", String::as_str)
}

/// The modules of every crate that ships, by the crate's folder. A `main.rs` beside a `lib.rs` is another crate, of one file.
fn crates() -> Outcome<BTreeMap<String, Modules<'static>>> {
    // They live as long as the program, which ends soon.
    let sources: &'static [Source] = Box::leak(sources()?.into_boxed_slice());
    let gated = gated(sources);
    let mut crates: BTreeMap<String, Modules<'static>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let Some((name, path)) = source.name.split_once("/src/") else { continue };
        if path == "main.rs" || path.starts_with("bin/") {
            continue;
        }
        let module = module_of(path);
        if gated.iter().any(|(of, test)| of == name && module.starts_with(test)) {
            continue;
        }
        let text = without_comments(&source.text);
        let mut file = File { name: &source.name, paths: Vec::new(), imports: BTreeMap::new() };
        read(&text, &mut file);
        crates.entry(name.to_owned()).or_default().insert(module, file);
    }
    Ok(crates)
}

fn module_of(path: &str) -> Module {
    let names = path.trim_end_matches(".rs").split('/');
    names.filter(|name| *name != "lib").map(str::to_owned).collect()
}

/// Modules that are there for tests alone: `#[cfg(test)] mod fixtures;`.
fn gated(sources: &[Source]) -> Vec<(String, Module)> {
    let mut gated = Vec::new();
    for source in sources {
        let Some((name, path)) = source.name.split_once("/src/") else { continue };
        let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0].starts_with("#[cfg(") && pair[0].contains("test")) {
            let declared = pair[1].trim_end_matches(';').split("mod ").nth(1);
            gated.extend(declared.map(|child| {
                let mut module = module_of(path);
                module.push(child.to_owned());
                (name.to_owned(), module)
            }));
        }
    }
    gated
}

/// The text without comments, and without what stands in quotation marks.
fn without_comments(text: &str) -> String {
    let code = text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    code.flat_map(|line| [line.split(" // ").next().unwrap_or_default(), "\n"]).collect()
}

/// Finds the paths and the imports of a file.
fn read(text: &str, file: &mut File<'_>) {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    for start in ["crate::", "super::", "self::"] {
        for (place, _) in text.match_indices(start) {
            // Not the `super::` of `super::super::`, nor another crate's `$crate::`.
            if !text[..place].ends_with(|c: char| is_name(c) || c == ':' || c == '$') {
                tree(&text[place..], &[], &mut |names, _| file.paths.push(names.to_vec()));
            }
        }
    }
    for (place, _) in text.match_indices("use ") {
        let begins = text[..place].trim_end_matches([' ', '\t']);
        let begins = begins.is_empty() || begins.ends_with('\n') || begins.ends_with("pub") || begins.ends_with(')');
        if begins {
            tree(&text[place + "use ".len()..], &[], &mut |names, alias| {
                file.imports.insert(alias.to_owned(), names.to_vec());
            });
        }
    }
}

/// Reads `a::b::{c, d as e}` and calls `found` with each path and the name that it is imported by. Gives what is left.
fn tree<'t>(text: &'t str, before: &[String], found: &mut impl FnMut(&[String], &str)) -> &'t str {
    let mut names = before.to_vec();
    let mut rest = text.trim_start();
    loop {
        if let Some(mut group) = rest.strip_prefix('{') {
            loop {
                group = tree(group, &names, found).trim_start();
                match group.strip_prefix(',') {
                    Some(more) if !more.trim_start().starts_with('}') => group = more,
                    Some(more) => return more.trim_start().strip_prefix('}').unwrap_or(more),
                    None => return group.strip_prefix('}').unwrap_or(group),
                }
            }
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, tail) = rest.split_at(end);
        if name.is_empty() {
            break;
        }
        if name != "self" || names.is_empty() {
            names.push(name.to_owned());
        }
        rest = tail;
        match rest.strip_prefix("::") {
            Some(more) => rest = more.trim_start(),
            None => break,
        }
    }
    let alias = rest.trim_start().strip_prefix("as ").map(|alias| {
        let alias = alias.trim_start();
        alias.split_at(alias.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(alias.len()))
    });
    if let Some((name, rest)) = alias {
        found(&names, name);
        rest
    } else {
        found(&names, last(&names));
        rest.trim_start_matches('*')
    }
}

/// The arrows of a crate: between rooms that are beside each other, each with a file that shows it.
fn arrows<'a>(modules: &Modules<'a>) -> BTreeMap<(Module, Module), &'a str> {
    let mut arrows = BTreeMap::new();
    for (module, file) in modules {
        for path in file.paths.iter().chain(file.imports.values()) {
            let Some(target) = resolve(modules, module, path, 8) else { continue };
            let shared = module.iter().zip(&target).take_while(|(one, other)| one == other).count();
            if shared < module.len() && shared < target.len() {
                arrows.entry((module[..=shared].to_vec(), target[..=shared].to_vec())).or_insert(file.name);
            }
        }
    }
    arrows
}

/// The module that holds what a path of `module` names; `None` where it is another crate's.
fn resolve(modules: &Modules<'_>, module: &[String], path: &[String], depth: u8) -> Option<Module> {
    let mut at: Module = module.to_vec();
    let mut names = path.iter();
    let first = names.clone().next()?;
    match first.as_str() {
        "crate" => at.clear(),
        "self" | "super" => {}
        // A child of this module, or another crate.
        child if !modules.contains_key(&[module, &[child.to_owned()]].concat()) => return None,
        _ => {}
    }
    if matches!(first.as_str(), "crate" | "self") {
        names.next();
    }
    while let Some(name) = names.next() {
        if name == "super" {
            at.pop()?;
            continue;
        }
        let child = [at.as_slice(), std::slice::from_ref(name)].concat();
        if modules.contains_key(&child) {
            at = child;
            continue;
        }
        // An item; where the module has imported it, what it was imported from.
        let imported = modules.get(&at).and_then(|file| file.imports.get(name)).filter(|_| depth > 0);
        return match imported {
            Some(path) => {
                let path: Vec<String> = path.iter().chain(names).cloned().collect();
                Some(resolve(modules, &at, &path, depth - 1).unwrap_or(at))
            }
            None => Some(at),
        };
    }
    Some(at)
}

/// Each set of rooms that lead to each other, as a sentence with the files that show it.
fn circles(graph: &Graph<'_>) -> Vec<String> {
    let reached = |from: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(at) = next.pop() {
            for (_, to) in graph.keys().filter(|(one, _)| *one == at) {
                if seen.insert(*to) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let rooms: BTreeSet<&str> = graph.keys().flat_map(|(from, to)| [*from, *to]).collect();
    let reach: BTreeMap<&str, BTreeSet<&str>> = rooms.iter().map(|room| (*room, reached(room))).collect();
    let mut circles = BTreeSet::new();
    for room in &rooms {
        let round: BTreeSet<&str> = rooms
            .iter()
            .filter(|other| reach[room].contains(*other) && reach[*other].contains(room))
            .copied()
            .collect();
        if !round.is_empty() {
            circles.insert(round);
        }
    }
    let shown = |round: &BTreeSet<&str>| {
        let inside = graph.iter().filter(|((from, to), _)| round.contains(from) && round.contains(to));
        let arrows: Vec<String> = inside.map(|((from, to), file)| format!("{from} -> {to} ({file})")).collect();
        format!("a circle: {}", arrows.join(", "))
    };
    circles.iter().map(shown).collect()
}
