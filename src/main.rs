use std::process::ExitCode;

use dayfly::jail::{Role, role, zygote_main};
use dayfly::process::worker_main;

fn main() -> ExitCode {
    // Before anything else: this program is also executed as its own zygote and workers.
    match role() {
        Some(Role::Zygote) => return zygote_main(),
        Some(Role::Worker) => return worker_main(),
        None => {}
    }
    ExitCode::SUCCESS
}
