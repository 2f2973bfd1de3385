//! `registrar`: the gateway and its command line.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 usage or local problem, 2 remote failure,
//! 3 refused by policy or because something would be lost, 4 done, and something is lost (a rebuilt store) or not
//! recorded yet, 6 outcome unknown: the write may have been done.

mod api;
mod args;
mod check;
mod clients;
mod connect;
mod demo;
mod failure;
mod fakes;
mod initial_access_tokens;
mod keys;
mod log;
mod offline;
mod operations;
mod output;
mod process;
mod serve;
mod store;
mod vendors;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    args::{Args, Command, RoutesCommand},
    failure::Failure,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        // the payload may hold anything: only the place is told
        let place =
            info.location().map_or_else(|| "an unknown place".to_owned(), |l| format!("{}:{}", l.file(), l.line()));
        output::note(&format!("internal error at {place}; please report it"));
    }));
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let is_help = !error.use_stderr();
            // clap knows where each belongs
            let printed = error.print();
            return if is_help && printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) };
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::note(&failure.text);
            ExitCode::from(failure.code)
        }
    }
}

fn run(args: Args) -> Result<(), Failure> {
    let format = args.output;
    match args.command {
        Command::Serve(serve) => serve::run(&serve),
        Command::Demo(demo) => demo::run(&demo),
        Command::Fakes(fakes) => fakes::run(&fakes),
        Command::Check(config) => check::run(&config, format),
        Command::Vendors => vendors::run(format),
        Command::Preview(preview) => offline::preview(&preview, format),
        Command::Routes { command: RoutesCommand::Explain(explain) } => offline::explain(&explain, format),
        Command::Clients(clients) => clients::run(clients, format),
        Command::Operations(operations) => operations::run(operations, format),
        Command::Keys { command } => keys::run(command, format),
        Command::InitialAccessTokens { command } => initial_access_tokens::run(command, format),
        Command::Store { command } => store::run(command, format),
        Command::Openapi => output::json(&registrar_server::openapi::document("http://127.0.0.1:8080")),
        Command::Healthcheck { url } => api::healthcheck(&url),
    }
}
