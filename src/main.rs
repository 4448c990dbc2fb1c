//! What each command does, read aloud.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::Parser;
use dayfly::app::{Gateway, Seams, Settings, Stopped, ask_storage, examine};
use dayfly::cli::{
    self, Arguments, Command, ConnectArguments, Explain, KeyCommand, NewKey, Remote,
};
use dayfly::clock::{SystemClock, parse_span};
use dayfly::config::{self, Embedded, Loaded, Raw};
use dayfly::entropy::{SystemEntropy, SystemMachine};
use dayfly::jail::{self, Holds, Role, Zygote};
use dayfly::keyring::{ProcessKeyring, Unusable};
use dayfly::ops::{Running, Standing};
use dayfly::policy::Ask;
use dayfly::{disk, http, process, receipt, secret, wire};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The settings or the machine cannot keep the promise (sysexits.h, EX_CONFIG).
const REFUSED: u8 = 78;
/// Something outlived the gateway that must not (sysexits.h, EX_SOFTWARE).
const LEFTOVERS: u8 = 70;
/// Ended by Ctrl-C: 128 and the number of SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;

/// Freed memory holds nothing, whoever has freed it.
#[global_allocator]
static MEMORY: secret::Wiping = secret::Wiping;

fn main() -> ExitCode {
    match jail::role() {
        Some(Role::Zygote) => return jail::zygote_main(),
        Some(Role::Worker) => return process::worker_main(),
        Some(Role::Probe) => return jail::probe_main(),
        None => {}
    }
    let done = match Arguments::parse().command {
        Command::Serve { config, listen } => serve(config.as_deref(), listen),
        Command::Check { config, online } => check(config.as_deref(), online),
        Command::Explain(asked) => explain(&asked),
        Command::Drain { pid } => drain(pid),
        Command::Verify { file, log_key } => return verify(&file, log_key.as_deref()),
        Command::Connect(asked) => connect(&asked),
        Command::Key { command: KeyCommand::New { tenant, roles, id } } => {
            new_key(&tenant, &roles, id.as_deref())
        }
        Command::Remote(remote) => ask(remote),
        Command::Schema => say(&config::schema()),
        Command::Openapi => openapi(),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("dayfly: {error:#}"));
            ExitCode::from(REFUSED)
        }
    }
}

/// Everything that must happen before the first thread happens first: the zygote that workers are
/// executed from, no dumps, and the keyring that every later thread possesses. The zygote before
/// anything else: it sets limits of its own, and a limit once lowered cannot be raised.
fn serve(config: Option<&Path>, listen: Option<SocketAddr>) -> anyhow::Result<ExitCode> {
    let zygote = Zygote::start(&std::env::current_exe()?)?;
    secret::forbid_dumps().context("the process cannot be made undumpable")?;
    disk::allow_many_files();
    let kernel = ProcessKeyring::prepare();
    let start = settings(config, listen)?;
    let holds = zygote.examine()?;
    let accepted = judge(&start.settings, kernel, &holds)?;
    logging(&start.settings);
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
    let machine = Arc::new(SystemMachine::listen());
    let seams = Seams { clock, entropy, zygote, holds, machine, kernel };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stopped = runtime.block_on(run(start, seams, accepted))?;
    complain(&format!(
        "dayfly forgot everything: keys={} blobs={} budget_used={} panicked={}",
        stopped.keys, stopped.blobs, stopped.budget_used, stopped.panicked
    ));
    Ok(if stopped.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(LEFTOVERS) })
}

async fn run(start: Start, seams: Seams, accepted: Vec<String>) -> anyhow::Result<Stopped> {
    // Whoever reads the ready line may send a signal at once.
    let (mut term, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (mut hangup, mut drain) =
        (signal(SignalKind::hangup())?, signal(SignalKind::user_defined1())?);
    let gateway = Gateway::start(start.settings, seams, accepted.clone()).await?;
    say(&format!(
        "dayfly listening on {}://{} admin http://{}\n",
        gateway.scheme(),
        gateway.public,
        gateway.admin
    ))?;
    if let Some(key) = start.greeting {
        greet(&gateway, &key, &accepted)?;
    }
    let (shutdown, reload) = (gateway.shutdown(), gateway.reload());
    let running = gateway.run();
    let mut running = std::pin::pin!(running);
    loop {
        tokio::select! {
            stopped = &mut running => return Ok(stopped),
            _ = term.recv() => shutdown.begin(),
            _ = interrupt.recv() => shutdown.begin(),
            _ = drain.recv() => {
                tracing::info!("draining: nothing new is taken in, and the last file ends this");
                shutdown.drain();
            }
            _ = hangup.recv() => {
                let again = reread(start.file.as_ref());
                match again.and_then(|again| Ok(reload(again)?)) {
                    Ok(()) => tracing::info!("the policy was reloaded"),
                    Err(error) => tracing::warn!("the reload was refused, all stays: {error:#}"),
                }
            }
        }
    }
}

/// What a gateway starts with.
struct Start {
    settings: Settings,
    /// The settings file and what it said, for a reload to be compared with.
    file: Option<(PathBuf, Raw)>,
    /// The embedded default's key for this run.
    greeting: Option<NewKey>,
}

/// Reads the settings again; only what a reload may change may have changed.
fn reread(file: Option<&(PathBuf, Raw)>) -> anyhow::Result<Settings> {
    let (path, first) = file.ok_or_else(|| anyhow!("the embedded default has no settings file"))?;
    let again = config::load(path)?;
    if !first.reloads_into(&again.raw) {
        return Err(anyhow!(
            "a setting changed that needs a restart: only tenants, keys, regions, processors, \
             pipelines and certificates are reloaded"
        ));
    }
    Ok(again.settings)
}

/// The settings to run with: the file's, or the embedded default with a key drawn for this run.
fn settings(config: Option<&Path>, listen: Option<SocketAddr>) -> anyhow::Result<Start> {
    let Some(path) = config else {
        let key = NewKey::draw(&SystemEntropy, Some("demo"))?;
        let spool = disk::temporary_home();
        let given = Embedded { listen, key_sha256: key.sha256.clone(), spool };
        let settings = config::embedded(given)?;
        return Ok(Start { settings, file: None, greeting: Some(key) });
    };
    let Loaded { mut settings, notes, raw } = config::load(path)?;
    for note in notes {
        complain(&format!("dayfly: note: {note}"));
    }
    settings.public = listen.unwrap_or(settings.public);
    Ok(Start { settings, file: Some((path.to_owned(), raw)), greeting: None })
}

/// The limits that were accepted; an error if one was not.
fn judge(
    settings: &Settings,
    kernel: Result<ProcessKeyring, Unusable>,
    holds: &Holds,
) -> anyhow::Result<Vec<String>> {
    let found = examine(settings, kernel, holds);
    let standing = |wanted| found.iter().filter(move |finding| finding.standing == wanted);
    let refused: Vec<&str> = standing(Standing::Refused).map(|found| &*found.words).collect();
    if !refused.is_empty() {
        return Err(anyhow!(refused.join("\n")));
    }
    Ok(standing(Standing::Accepted).map(|finding| finding.name.to_owned()).collect())
}

fn logging(settings: &Settings) {
    let log = tracing_subscriber::fmt()
        .with_max_level(settings.log_level)
        .with_target(false)
        .with_ansi(false)
        .with_writer(std::io::stderr);
    // Only our own lines: what other crates say of a request is not ours to write down.
    let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), settings.log_level);
    if settings.log_json {
        log.json().finish().with(ours).init();
    } else {
        log.finish().with(ours).init();
    }
}

fn greet(gateway: &Gateway, key: &NewKey, accepted: &[String]) -> anyhow::Result<()> {
    let (at, key) = (gateway.public, key.bearer.as_str());
    say(&format!(
        "\n  Files come in, are sealed, and are forgotten within 24 hours. For this run:\n\n\
         \x20 key   {key}\n\
         \x20 docs  http://{at}/docs\n\n\
         \x20 Take a file in (paste this; any file will do):\n\n\
         \x20 curl -H 'Authorization: Bearer {key}' -T /etc/hostname http://{at}/v1/files/\n\n"
    ))?;
    if !accepted.is_empty() {
        complain(&format!(
            "dayfly: warning: accepted on this machine, and named in every receipt: {}",
            accepted.join(", ")
        ));
    }
    Ok(())
}

/// Shows what would hold, and refuses what would not.
fn check(config: Option<&Path>, online: bool) -> anyhow::Result<ExitCode> {
    let (settings, shown, notes) = match config.map(config::load).transpose()? {
        Some(loaded) => (loaded.settings, toml::to_string(&loaded.raw.redacted())?, loaded.notes),
        None => (settings(None, None)?.settings, "# the embedded default\n".to_owned(), Vec::new()),
    };
    say(&format!("{shown}\n"))?;
    let holds = Zygote::start(&std::env::current_exe()?)?.examine()?;
    let mut findings = examine(&settings, ProcessKeyring::prepare(), &holds);
    if online {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        findings.push(runtime.block_on(ask_storage(&settings, clock, entropy)));
    }
    for finding in &findings {
        let mark = match finding.standing {
            Standing::Fine => "ok",
            Standing::Accepted => "accepted",
            Standing::Refused => "REFUSED",
        };
        say(&format!("{mark:<9} {:<11} {}\n", finding.name, finding.words))?;
    }
    for note in notes {
        say(&format!("{:<9} {note}\n", "note"))?;
    }
    if findings.iter().any(|finding| finding.standing == Standing::Refused) {
        say("\nrefused: `dayfly serve` would not start\n")?;
        return Ok(ExitCode::from(REFUSED));
    }
    say("\nready: `dayfly serve` would start\n")
}

/// Says what the policy of these settings would decide, with the code that decides it.
fn explain(asked: &Explain) -> anyhow::Result<ExitCode> {
    let policy = settings(asked.config.as_deref(), None)?.settings.policy;
    let name = asked.tenant.as_str();
    let tenant = policy.tenants.get(name);
    let tenant = tenant.ok_or_else(|| anyhow!("there is no [tenants.{name}] table"))?;
    let steps = policy.expand(&asked.steps);
    let known = |step: &&String| {
        process::BUILT_IN.contains(&step.as_str()) || policy.processors.contains_key(*step)
    };
    if let Some(step) = steps.iter().find(|step| !known(step)) {
        return Err(anyhow!("there is no processor {step}"));
    }
    let span = |text: &str| parse_span(text).ok_or_else(|| anyhow!("--ttl is like 90s or 4h"));
    let ask = Ask {
        region: asked.region.as_deref(),
        ttl: asked.ttl.as_deref().map(span).transpose()?,
        declared_bytes: asked.size,
        steps: &steps,
        source: asked.source.as_deref().filter(|source| !["upload", "file"].contains(source)),
        deliver: asked.deliver.as_deref(),
        webhook: asked.webhook.as_deref(),
    };
    let said = wire::Explanation::of(&policy.explain(name, tenant, &ask), Some(&policy.places));
    if asked.json {
        return say(&format!("{}\n", serde_json::to_string(&said)?));
    }
    let region = said.region.as_deref().unwrap_or("no such region");
    say(&format!("{} ({region})\n", said.decision))?;
    for reason in &said.reasons {
        let from = reason.from.as_deref().unwrap_or_default();
        say(&format!("  {:<9} {:<17} {from}\n", reason.result, reason.rule))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks a running gateway to take nothing new in, and returns when it has ended.
fn drain(pid: Option<i32>) -> anyhow::Result<ExitCode> {
    let gateway = Running::find(pid)?;
    gateway.ask()?;
    say(&format!("process {} takes nothing new in; it ends with its last file\n", gateway.pid))?;
    gateway.see_out()?;
    say("it has ended\n")
}

/// Has a person connect their storage to a gateway that runs elsewhere.
fn connect(asked: &ConnectArguments) -> anyhow::Result<ExitCode> {
    let caller = config::caller().map_err(|missing| anyhow!("{missing} is not set"))?;
    let gateway = cli::Gateway::at(&caller.url, &caller.key, Arc::new(SystemClock))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let waiting = runtime.block_on(cli::begin(&gateway, asked))?;
    // What is to be read by a program goes to stdout alone.
    complain(&format!(
        "Open this page, within 10 minutes, in the browser that is to consent:\n\n  {}\n",
        waiting.authorize_url
    ));
    complain("Then type the code it shows:");
    let mut code = zeroize::Zeroizing::new(String::new());
    std::io::stdin().read_line(&mut code)?;
    let active = runtime.block_on(cli::confirm(&gateway, asked, &waiting, &code))?;
    if asked.json {
        return say(&format!("{active:#}\n"));
    }
    complain(&format!(
        "connected until {}: {}",
        active["expires_at"].as_str().unwrap_or_default(),
        active["account"].as_str().unwrap_or_default()
    ));
    say(&format!("{}\n", waiting.id))
}

/// Asks a gateway something, as its client.
fn ask(remote: Remote) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        tokio::select! {
            status = remote.run(config::access()) => status,
            _ = tokio::signal::ctrl_c() => INTERRUPTED,
        }
    });
    // A stdin that stays silent does not hold up the end.
    runtime.shutdown_background();
    Ok(ExitCode::from(status))
}

/// Judges a receipt; what cannot be read is unreadable, not a refusal.
fn verify(file: &Path, log_key: Option<&Path>) -> ExitCode {
    let pinned = log_key.map(disk::read_text).transpose();
    let verdict = match (disk::read_input(file), pinned) {
        (Ok(file), Ok(pinned)) => receipt::verify(&file, pinned.as_deref()),
        _ => receipt::Verdict::Unreadable,
    };
    // Without anybody to read the words the status still says it.
    let _ = say(&format!("{}\n", verdict.words()));
    ExitCode::from(verdict.status())
}

fn new_key(tenant: &str, roles: &[String], id: Option<&str>) -> anyhow::Result<ExitCode> {
    let key = NewKey::draw(&SystemEntropy, id)?;
    say(&format!("{}\n\n{}", key.bearer.as_str(), key.block(tenant, roles)))
}

fn openapi() -> anyhow::Result<ExitCode> {
    say(&format!("{}\n", http::openapi().to_pretty_json()?))
}

/// To stdout, at once. A reader that has gone away is no error.
fn say(text: &str) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// To stderr. If even that fails there is nobody to tell.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
