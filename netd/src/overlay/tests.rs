//! What is desired, as the plan that makes it from nothing. The addresses are in [`network`].

pub(crate) mod network;
mod plans;
mod rules;
mod switching;
mod told;
