//! The `main` of every suite: isolation first, then the tests, several at a time.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::failure::Outcome;
use crate::{fail, isolation};

/// A test with its name.
pub fn test(name: impl Into<String>, body: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    Trial::test(name, move || body().map_err(Failed::from))
}

/// A test that mostly waits: it begins with the suite, on a thread of its own, and is asked how it went when its turn comes.
/// As the last of the trials it keeps no other one waiting.
pub fn from_the_start(name: impl Into<String>, body: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    let name = name.into();
    let nothing = Trial::test(name.clone(), || Ok(()));
    let arguments = Arguments::from_args();
    if arguments.list || arguments.is_filtered_out(&nothing) {
        return nothing;
    }
    let running = std::thread::spawn(body);
    test(name, move || running.join().unwrap_or_else(|_| fail!("it panicked; the message is above")))
}

/// Set to `only`, nothing is tested: what a suite needs is made, and it ends.
const PREPARE: &str = "NETD_TESTS_PREPARE";

/// True where the suite only makes what it needs, for a later run.
pub fn prepares_only() -> bool {
    std::env::var_os(PREPARE).is_some_and(|value| value == "only")
}

/// Runs the tests that `trials` lists, each in namespaces of its own, and exits as `cargo test` expects.
pub fn run(trials: impl FnOnce() -> Vec<Trial>) -> ExitCode {
    run_with(|| Ok(()), trials)
}

/// The same for a suite that needs something first that can only be had outside of the namespaces, where the network is.
pub fn run_with(prepare: impl FnOnce() -> Outcome, trials: impl FnOnce() -> Vec<Trial>) -> ExitCode {
    let arguments = Arguments::from_args();
    if !arguments.list
        && !isolation::is_entered()
        && let Err(failure) = prepare()
    {
        eprintln!("error: {failure}");
        return ExitCode::FAILURE;
    }
    if prepares_only() {
        return ExitCode::SUCCESS;
    }
    if !arguments.list
        && let Err(code) = isolation::enter_or_exit()
    {
        return code;
    }
    libtest_mimic::run(&arguments, trials()).exit_code()
}
