//! The command line, as clap reads it.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// One API in front of every identity vendor's OAuth client registration.
#[derive(Debug, Parser)]
#[command(
    name = "registrar",
    version,
    about,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 usage or local problem, 2 remote failure, 3 refused by policy or loss,\n4 done, and something is lost or not recorded yet, 6 outcome unknown: look before you repeat.\nFirst steps: `registrar demo` shows everything with simulated vendors, without any configuration."
)]
pub(crate) struct Args {
    /// How results are printed.
    #[arg(short = 'o', long, global = true, value_enum, default_value = "table")]
    pub(crate) output: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway.
    Serve(ServeArgs),
    /// Show what the gateway does, with simulated vendors, and keep serving.
    Demo(DemoArgs),
    /// Run the simulated vendors on one loopback port, to play with.
    Fakes(FakesArgs),
    /// Check a configuration file: every error at once.
    Check(CheckArgs),
    /// What each vendor kind can do and hold.
    Vendors,
    /// What would be sent and lost for a registration; nothing is sent.
    Preview(PreviewArgs),
    /// Routing.
    Routes {
        #[command(subcommand)]
        command: RoutesCommand,
    },
    /// Clients at a running gateway.
    Clients(ClientsArgs),
    /// The journal of a running gateway: what was written, and what is not yet known.
    Operations(OperationsArgs),
    /// API keys.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Tokens that allow a dynamic registration at `/register`.
    InitialAccessTokens {
        #[command(subcommand)]
        command: InitialAccessTokensCommand,
    },
    /// Check, copy or rebuild the store.
    Store {
        #[command(subcommand)]
        command: crate::store::StoreCommand,
    },
    /// Print the API document (OpenAPI 3.1).
    Openapi,
    /// Ask a running gateway for its health: for containers without curl.
    Healthcheck {
        /// What to ask.
        #[arg(long, default_value = "http://127.0.0.1:8080/healthz")]
        url: String,
    },
}

/// Where the configuration is.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct ConfigArgs {
    /// The configuration file.
    #[arg(short, long, env = "REGISTRAR_CONFIG", default_value = "registrar.toml")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Resolve no `env:` and `file:` reference: for a machine that has none of the secrets.
    #[arg(long)]
    pub(crate) no_secrets: bool,
    /// Take warnings for errors: exit code 1.
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DemoArgs {
    /// Run the steps, check their results, and end.
    #[arg(long)]
    pub(crate) once: bool,
    /// Where to serve afterwards; a loopback address.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct FakesArgs {
    /// Where to listen; a loopback address.
    #[arg(long, default_value = "127.0.0.1:9090")]
    pub(crate) listen: SocketAddr,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PreviewArgs {
    /// The registration as JSON (`{"metadata": {...}}`, or client metadata alone); `-` for standard input.
    #[arg(short, long)]
    pub(crate) file: PathBuf,
    /// The backend; without a configuration file, a vendor kind. The routes decide when absent.
    #[arg(long)]
    pub(crate) backend: Option<String>,
    /// The configuration file; without one, every vendor kind is shown.
    #[arg(short, long, env = "REGISTRAR_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoutesCommand {
    /// Where a registration would go, and why.
    Explain(ExplainArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ExplainArgs {
    /// The registration as JSON; `-` for standard input.
    #[arg(short, long)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// How to reach a running gateway.
#[derive(Debug, ClapArgs)]
pub(crate) struct GatewayArgs {
    /// The gateway's URL.
    #[arg(long, global = true, env = "REGISTRAR_URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// A file with the API key; the environment variable REGISTRAR_API_KEY holds the key itself.
    #[arg(long, global = true)]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Send the API key over plain http to another machine, too: whoever is on the way can read it.
    #[arg(long, global = true)]
    pub(crate) insecure: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct OperationsArgs {
    #[command(flatten)]
    pub(crate) gateway: GatewayArgs,
    #[command(subcommand)]
    pub(crate) command: OperationsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OperationsCommand {
    /// List writes, oldest first.
    List {
        /// Only in this state: pending, succeeded, failed or unknown.
        #[arg(long)]
        state: Option<String>,
        /// How many at the most.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Show a write and what is known about it.
    Get {
        /// Its id (op_...).
        id: String,
    },
    /// Say what became of a write that the gateway cannot find out about.
    #[command(group(clap::ArgGroup::new("how").required(true).args(["adopt", "absent", "gone"])))]
    Resolve {
        /// Its id (op_...).
        id: String,
        /// The vendor has the client: its client_id there.
        #[arg(long, value_name = "CLIENT_ID")]
        adopt: Option<String>,
        /// What the vendor's paths address the client by, where that is not its client_id.
        #[arg(long, requires = "adopt")]
        vendor_ref: Option<String>,
        /// Adopt it although it is not like what was asked for; the journal says who did.
        #[arg(long, requires = "adopt")]
        force: bool,
        /// The vendor did nothing.
        #[arg(long)]
        absent: bool,
        /// The vendor does not have the client any more that was to be changed or deleted: it is removed here, too.
        #[arg(long)]
        gone: bool,
    },
    /// Destroy the sealed secret of a write: you have it.
    Acknowledge {
        /// Its id (op_...).
        id: String,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ClientsArgs {
    #[command(flatten)]
    pub(crate) gateway: GatewayArgs,
    /// Makes a repeated write the same write; a new one for each command when absent.
    #[arg(long, global = true, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    #[command(subcommand)]
    pub(crate) command: ClientsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClientsCommand {
    /// Register a client.
    Create {
        /// The registration as JSON; `-` for standard input.
        #[arg(short, long)]
        file: PathBuf,
        /// Where; overrides the file and the routes.
        #[arg(long)]
        backend: Option<String>,
        /// A field whose loss is accepted; may be repeated.
        #[arg(long = "allow-loss", value_name = "FIELD")]
        allow_loss: Vec<String>,
        /// A label, as KEY=VALUE; may be repeated.
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
        /// Only show what would be sent and lost.
        #[arg(long)]
        dry_run: bool,
    },
    /// List clients.
    List {
        /// Only at this backend.
        #[arg(long)]
        backend: Option<String>,
        /// Only with this label, as KEY=VALUE; may be repeated.
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
        /// Only with this text in name or client id.
        #[arg(short)]
        q: Option<String>,
        /// How many at the most.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Show a client.
    Get {
        /// Its id (reg_...).
        id: String,
        /// Read it live from the vendor and show what has drifted.
        #[arg(long)]
        live: bool,
    },
    /// Change a client: by default a merge patch, with --replace the whole.
    Update {
        /// Its id (reg_...).
        id: String,
        /// The patch or registration as JSON; `-` for standard input.
        #[arg(short, long)]
        file: PathBuf,
        /// Make it be exactly this.
        #[arg(long)]
        replace: bool,
        /// Only if it is still at this version.
        #[arg(long)]
        if_version: Option<u64>,
    },
    /// Say that clients were seen at work: those that registered openly do not expire.
    Used {
        /// Their ids (reg_...).
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Delete a client at its vendor.
    Delete {
        /// Its id (reg_...).
        id: String,
        /// Switch it off instead, for vendors without deletion.
        #[arg(long)]
        disable: bool,
        /// Only if the client is still at this version.
        #[arg(long)]
        if_version: Option<u64>,
    },
    /// Issue a new secret, shown once.
    RotateSecret {
        /// Its id (reg_...).
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key; its token is shown once.
    Create {
        /// Its name.
        name: String,
        /// What it may do: clients:read, clients:write, clients:rotate, clients:delete, tokens:write, ops:read, ops:write,
        /// ops:resolve. clients:write includes all but ops:read. Repeated or separated by commas; all when absent.
        #[arg(long = "scope", alias = "scopes", value_delimiter = ',')]
        scopes: Vec<String>,
        /// Make the store, too, where there is none: before the gateway is started for the first time.
        #[arg(long)]
        init: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// List keys, without their tokens.
    List {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Forget a key: it stops working at once.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum InitialAccessTokensCommand {
    /// Make a token; it is shown once.
    Create {
        /// What it is for.
        name: String,
        /// How many registrations it allows; any number when absent.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        uses: Option<u32>,
        /// Seconds until it ends; it does not end when absent.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
        expires_in: Option<u64>,
        /// Only at this route; may be repeated.
        #[arg(long = "route")]
        routes: Vec<String>,
        /// Only this scope; repeated or separated by commas.
        #[arg(long = "scope", alias = "scopes", value_delimiter = ',')]
        scopes: Vec<String>,
        /// Only this host in redirect URIs, or this scheme, ending with a colon; may be repeated.
        #[arg(long = "redirect-host", value_name = "HOST")]
        redirect_hosts: Vec<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// List tokens, without what is secret.
    List {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Forget a token: it stops working at once.
    Delete {
        /// Its id.
        id: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}
