//! An operation that is recorded before it begins.

use jiff::Timestamp;
use mimeo_manager_api::{Machine, Operation, OperationStatus, Resource, ResourceKind};
use serde_json::json;

use super::{OperationRequest, spawn};
use crate::App;
use crate::api_error::{ApiError, Result};
use crate::database::{EventDraft, OperationRow, Write, resource};
use crate::live::LiveOperation;
use crate::problems::name_of;
use crate::secrets::Secrets;

/// An operation that is recorded before it begins.
#[derive(Debug)]
pub(crate) struct NewOperation {
    item: Operation,
    request: OperationRequest,
    owner: String,
    /// The resource's name, for the event.
    name: String,
}

impl NewOperation {
    /// An operation on a machine.
    pub(crate) fn on_machine(request: OperationRequest, machine: &Machine, actor: &str) -> Self {
        Self::new(
            request,
            resource(ResourceKind::Machine, &*machine.id),
            &machine.owner,
            &machine.name,
            actor,
        )
    }

    /// An operation on a resource of this owner and of this name.
    pub(crate) fn new(
        request: OperationRequest,
        resource: Resource,
        owner: &str,
        name: &str,
        actor: &str,
    ) -> Self {
        let now = Timestamp::now();
        let item = Operation {
            id: uuid::Uuid::now_v7().simple().to_string(),
            kind: request.kind(),
            status: OperationStatus::Running,
            resource,
            stage: None,
            progress: None,
            stages: Vec::new(),
            error: None,
            result: None,
            created_by: actor.to_owned(),
            may_cancel: request.may_cancel(),
            created_at: now,
            updated_at: now,
            finished_at: None,
        };
        Self { item, request, owner: owner.to_owned(), name: name.to_owned() }
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        &self.item.id
    }

    /// Shows what is known of the result already.
    pub(crate) fn with_result(mut self, result: serde_json::Value) -> Self {
        self.item.result = Some(result);
        self
    }

    /// Records it with all that was written, and begins it.
    pub(crate) async fn commit(
        self,
        app: &App,
        mut write: Write<'_>,
        secrets: Secrets,
    ) -> Result<LiveOperation> {
        self.record(&mut write).await?;
        // If the commit fails, or is abandoned, it may have happened all the same: the reconciler then takes it up.
        let _announced = app.operations().announce(&self.item.id);
        write.commit().await?;
        Ok(spawn(app, self.item, &self.owner, self.request, secrets))
    }

    /// Records it, and its event.
    async fn record(&self, write: &mut Write<'_>) -> Result<()> {
        let request = serde_json::to_string(&self.request).map_err(|error| {
            ApiError::new(500, "internal", format!("cannot store the operation: {error}"))
        })?;
        let row = OperationRow { item: self.item.clone(), owner: self.owner.clone(), request };
        write.add_operation(&row).await?;
        let resource = self.item.resource.clone();
        let (subject, verb) = (name_of(&resource.kind), name_of(&self.item.kind));
        let data = json!({ "operation": self.item.id, "name": self.name, "request": verb });
        let (kind, actor, owner) =
            (format!("{subject}.{verb}_requested"), &*self.item.created_by, &*self.owner);
        write.event(EventDraft { kind: &kind, actor, owner, resource, data }).await?;
        Ok(())
    }
}
