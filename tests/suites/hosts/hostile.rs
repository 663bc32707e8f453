//! Peers that lie, texts that harm, local users without rights, floods.

#[path = "hostile/bounds.rs"]
mod bounds;
#[path = "hostile/errors.rs"]
mod errors;
#[path = "hostile/local.rs"]
mod local;
#[path = "hostile/peers.rs"]
mod peers;
#[path = "hostile/texts.rs"]
mod texts;

use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    [peers::trials, texts::trials, local::trials, bounds::trials, errors::trials]
        .into_iter()
        .flat_map(|trials| trials())
        .collect()
}
