//! Who may call a route. A route cannot be added without its policy (`router`).

use mimeo_manager_api::{Role, Scope};

use super::{ApiError, Caller, Result};

/// Who may call a route. Handlers check besides whose resource it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Everybody, without a token.
    Public,
    /// Everybody with a token, of any scope.
    Authenticated,
    /// Those who may read items.
    Read,
    /// Those who may change resources.
    Write,
    /// Those who may run commands, and read logs and files.
    Exec,
    /// Administrators.
    Admin,
    /// Only the machine itself, with its own token.
    OwnMachine,
}

impl Policy {
    /// Its name in the API's document.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Authenticated => "authenticated",
            Self::Read => "read",
            Self::Write => "write",
            Self::Exec => "exec",
            Self::Admin => "admin",
            Self::OwnMachine => "own-machine",
        }
    }

    /// Refuses a caller who may not call such a route.
    pub(crate) fn check(self, caller: &Caller) -> Result<()> {
        let is_allowed = match self {
            Self::Public => true,
            Self::OwnMachine => caller.machine.is_some(),
            // A machine's own token is for nothing else.
            _ if caller.machine.is_some() => false,
            Self::Authenticated => true,
            Self::Read => caller.has(Scope::Read),
            Self::Write => caller.has(Scope::Write) && caller.role != Role::Viewer,
            Self::Exec => caller.has(Scope::Exec) && caller.role != Role::Viewer,
            Self::Admin => caller.has(Scope::Admin) && caller.role == Role::Admin,
        };
        if is_allowed {
            return Ok(());
        }
        let detail = format!("{} may not do this: it needs the policy {:?}", caller.name, self.name());
        Err(ApiError::new(403, "forbidden", detail)
            .with_hint("use a token of a user with a role and scopes that allow it"))
    }
}
