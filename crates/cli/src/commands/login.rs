//! `mimeo login`: verifies and stores the login of a registry.

use std::io::{BufRead, IsTerminal, Read, Write, stderr, stdin};

use mimeo_image::{AuthFile, Credentials, LoginError, RegistryOptions, verify_login};

use crate::commands::image::registry::RegistryArgs;
use crate::error::CliError;
use crate::interruption::Interruption;
use crate::output;
use crate::terminal::HiddenInput;

/// Arguments of `mimeo login`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mimeo login quay.io\n  mimeo login -u me --password-stdin quay.io <token.txt\n  mimeo login --get-login quay.io"
)]
pub(crate) struct Args {
    #[command(flatten)]
    registry_args: RegistryArgs,
    /// User name
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// Password; other users of this host see it while the command runs, so prefer --password-stdin
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Print the user that is logged in
    #[arg(long, conflicts_with_all = ["username", "password", "password_stdin"])]
    get_login: bool,
    /// Accepted for compatibility with podman
    #[arg(short, long)]
    verbose: bool,
    /// The registry, HOST[:PORT]
    #[arg(value_name = "REGISTRY")]
    registry: String,
}

/// Verifies the login with the registry, then stores it. A stored login that is valid stays where it is stored, which
/// may be a credential helper.
pub(crate) async fn run(args: Args) -> Result<i32, CliError> {
    let registry = registry_of(&args.registry);
    let file = AuthFile::locate(args.registry_args.authfile.as_deref());
    if args.get_login {
        let stored = file.stored(registry)?;
        let stored = stored.ok_or_else(|| CliError::usage(format!("not logged into {registry}")))?;
        output::line(stored.user)?;
        return Ok(0);
    }
    let options = args.registry_args.options(None)?;
    // With a user name nothing stored is needed, so an unusable login file does not matter.
    let stored = if args.username.is_none() { file.stored(registry)? } else { None };
    if let Some(stored) = stored.as_ref().filter(|_| args.password.is_none() && !args.password_stdin)
        && is_logged_in(registry, stored, &options).await?
    {
        return Ok(0);
    }
    let credentials = obtain_credentials(&args, stored.map(|stored| stored.user)).await?;
    verify(registry, &credentials, &options).await.map_err(|error| failed(registry, error))?;
    file.store(registry, &credentials)?;
    output::line("Login Succeeded!")?;
    Ok(0)
}

/// Whether the registry accepts the stored login. Reports it as podman does.
async fn is_logged_in(
    registry: &str,
    stored: &Credentials,
    options: &RegistryOptions,
) -> Result<bool, CliError> {
    output::line(format!("Authenticating with existing credentials for {registry}"))?;
    match verify(registry, stored, options).await {
        Ok(()) => {
            output::line(format!("Existing credentials are valid. Already logged in to {registry}"))?;
            Ok(true)
        }
        Err(LoginError::Refused) => {
            output::line("Existing credentials are invalid, please enter valid username and password")?;
            Ok(false)
        }
        Err(error) => Err(failed(registry, error)),
    }
}

async fn verify(
    registry: &str,
    credentials: &Credentials,
    options: &RegistryOptions,
) -> Result<(), LoginError> {
    let host = registry.split('/').next().unwrap_or(registry);
    verify_login(host, credentials, options).await
}

fn failed(registry: &str, error: LoginError) -> CliError {
    CliError::usage(format!("logging into {registry:?}: {}", CliError::from(error)))
}

/// The registry without what people copy with it.
pub(super) fn registry_of(text: &str) -> &str {
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    bare.trim_end_matches('/')
}

/// Takes user name and password from the arguments, or asks for them on the terminal.
async fn obtain_credentials(args: &Args, previous: Option<String>) -> Result<Credentials, CliError> {
    let user = match &args.username {
        Some(user) => user.clone(),
        None if args.password_stdin => {
            return Err(CliError::usage("must provide --username with --password-stdin"));
        }
        None => {
            let default = previous.as_ref().map(|user| format!(" ({user})")).unwrap_or_default();
            let answer = prompt(&format!("Username{default}: "), false).await?;
            previous.filter(|_| answer.is_empty()).unwrap_or(answer)
        }
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => read_password()?,
        None => prompt("Password: ", true).await?,
    };
    if user.is_empty() || password.is_empty() {
        return Err(CliError::usage("cannot log in: the user name or the password is empty"));
    }
    Ok(Credentials { user, password })
}

/// Asks on the terminal. A signal ends the command, with the terminal as it was.
async fn prompt(question: &str, is_hidden: bool) -> Result<String, CliError> {
    if !stdin().is_terminal() {
        return Err(CliError::usage(
            "cannot ask for the login: standard input is not a terminal; give --username and --password-stdin",
        ));
    }
    let io = |source| CliError::io("ask for the login", source);
    let mut interruption = Interruption::listen();
    let hidden = if is_hidden { HiddenInput::enter()? } else { None };
    write!(stderr(), "{question}").map_err(io)?;
    let answer = tokio::select! {
        signal = interruption.received() => {
            Err(CliError::usage("interrupted").with_code(128 + signal))
        }
        answer = tokio::task::spawn_blocking(read_answer) => answer?.map_err(io),
    };
    if is_hidden {
        writeln!(stderr()).map_err(io)?;
    }
    drop(hidden);
    answer
}

fn read_answer() -> std::io::Result<String> {
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim_end_matches(['\r', '\n']).to_owned())
}

fn read_password() -> Result<String, CliError> {
    let mut text = String::new();
    let read = stdin().lock().read_to_string(&mut text);
    read.map_err(|source| CliError::io("read the password from standard input", source))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
