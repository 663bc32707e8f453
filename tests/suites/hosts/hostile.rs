//! Peers that lie, texts that harm, local users without rights, floods.

use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![]
}
