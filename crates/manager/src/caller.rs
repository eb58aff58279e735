//! Who sends a request, and how it reached the manager.

use jiff::Timestamp;
use mimeo_manager_api::{Role, Scope};

use crate::database::{MANAGER, TokenRow};

/// All scopes.
pub(crate) const ALL_SCOPES: [Scope; 4] = [Scope::Read, Scope::Write, Scope::Exec, Scope::Admin];

/// The owner of machines that were made without the manager, and the user of its Unix socket.
pub(crate) const LOCAL: &str = "local";

/// How a connection reached the manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Over TCP, from this address.
    Tcp(std::net::SocketAddr),
    /// Over the Unix socket, whose permissions say who may connect.
    Unix,
}

/// The sender of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The user's id.
    pub(crate) id: String,
    /// The user's name.
    pub(crate) name: String,
    /// The user's role.
    pub(crate) role: Role,
    /// What the token may be used for.
    pub(crate) scopes: Vec<Scope>,
    /// The token's id.
    pub(crate) token: Option<String>,
    /// The machine whose own token this is.
    pub(crate) machine: Option<String>,
    /// When the token expires.
    pub(crate) expires_at: Option<Timestamp>,
}

impl Caller {
    /// The user of the Unix socket.
    pub(crate) fn local() -> Self {
        Self {
            id: LOCAL.to_owned(),
            name: LOCAL.to_owned(),
            role: Role::Admin,
            scopes: ALL_SCOPES.to_vec(),
            token: None,
            machine: None,
            expires_at: None,
        }
    }

    /// The manager itself.
    pub(crate) fn manager() -> Self {
        Self { id: MANAGER.to_owned(), name: MANAGER.to_owned(), ..Self::local() }
    }

    /// Whether the token may be used for this.
    pub(crate) fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Whether the caller may see resources of this owner.
    pub(crate) fn sees(&self, owner: &str) -> bool {
        self.role != Role::User || self.name == owner
    }

    /// The only owner whose resources the caller may see, if there is one.
    pub(crate) fn only_owner(&self) -> Option<String> {
        (self.role == Role::User).then(|| self.name.clone())
    }
}

impl From<TokenRow> for Caller {
    fn from(row: TokenRow) -> Self {
        let TokenRow { item, user } = row;
        Self {
            id: user.id,
            name: user.name,
            role: user.role,
            scopes: item.scopes,
            token: Some(item.id),
            machine: item.machine,
            expires_at: item.expires_at,
        }
    }
}
