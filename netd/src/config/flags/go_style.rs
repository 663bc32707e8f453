//! Go's syntax for flags, so that command lines for flanneld work: one dash or two, and Go's words for true and false.
//!
//! Pure.

use std::ffi::OsString;

use clap::{Arg, ArgAction};

/// A flag, which takes Go's booleans where it is one: `--flag` and `--flag=BOOL`.
pub(super) fn completed(arg: Arg) -> Arg {
    if arg.get_value_names().is_none_or(|names| names != ["BOOL"]) {
        return arg;
    }
    let arg = arg.action(ArgAction::Set).value_parser(boolean);
    arg.num_args(0..=1).require_equals(true).default_missing_value("true")
}

/// Go's booleans (`strconv.ParseBool`).
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("it must be true or false (or 1, 0, t, f)".to_owned()),
    }
}

/// Makes `--flag` of `-flag`, and the subcommand of `--version`.
pub(super) fn with_two_dashes(arg: OsString) -> OsString {
    match arg.to_str() {
        Some("-version" | "--version") => "version".into(),
        // One letter is clap's own: `-h`, and `-ojson` as kubectl's users type it.
        Some(text) if is_format(text) => arg,
        Some(text) if text.len() > 2 && text.starts_with('-') && !text.starts_with("--") => format!("-{text}").into(),
        _ => arg,
    }
}

fn is_format(text: &str) -> bool {
    let format = text.strip_prefix("-o").map(|rest| rest.strip_prefix('=').unwrap_or(rest));
    format.is_some_and(|format| ["json", "table", "yaml"].contains(&format))
}

/// The name in `--name` and `--name=value`, also where it has one dash.
pub(super) fn name(arg: &OsString) -> Option<&str> {
    let text = arg.to_str()?;
    let text = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
    text.split('=').next().filter(|name| !name.is_empty())
}

/// The variable of a flag of flanneld's.
pub(super) fn variable(flag: &str) -> String {
    format!("FLANNELD_{}", flag.replace('-', "_").to_uppercase())
}
