//! The plugin from outside, as a runtime calls it: the cases of the specification and of the reference's defects.

#[path = "cni/add.rs"]
mod add;
#[path = "cni/bed.rs"]
mod bed;
#[path = "cni/check.rs"]
mod check;
#[path = "cni/del.rs"]
mod del;
#[path = "cni/gc_status.rs"]
mod gc_status;
#[path = "cni/inputs.rs"]
mod inputs;

use std::process::ExitCode;

use netd_tests::suite;

fn main() -> ExitCode {
    suite::run(|| {
        let subjects = [inputs::trials(), add::trials(), del::trials(), check::trials(), gc_status::trials()];
        subjects.into_iter().flatten().collect()
    })
}
