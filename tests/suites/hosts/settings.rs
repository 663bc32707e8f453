//! The host's other settings.

use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![]
}
