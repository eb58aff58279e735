//! The API's document.

use mimeo_manager_api::Problem;
use utoipa::PartialSchema;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, Info, License, ObjectBuilder, OpenApi, Ref, ResponseBuilder, Type,
};

use super::Routes;
use super::router::{BEARER, operations};

/// What the groups of routes are for.
const TAGS: [(&str, &str); 13] = [
    ("manager", "The manager itself: whether it works, what it can do, who you are."),
    (
        "machines",
        "Machines: a microVM each, with its container. `/v1/vms` and `/v1/containers` are two views of the same machines.",
    ),
    ("files", "Files of running machines' containers."),
    (
        "records",
        "What the command line of the same version shows, in the engine's own form. Other clients use the other routes.",
    ),
    ("operations", "Changes that take time. Finished operations are kept for at least an hour."),
    ("events", "What happened, and who requested it. The events form a chain, so that an edit shows."),
    ("snapshots", "Snapshots of machines, from which machines are started."),
    ("runtime snapshots", "Snapshots of booted guests, from which new machines start warm."),
    ("images", "Images in the store."),
    ("volumes", "Named volumes."),
    ("users", "Users and their roles."),
    ("tokens", "Tokens, by which users authenticate."),
    ("metrics", "Figures for Prometheus."),
];

/// Returns the API's document (OpenAPI 3.1).
pub(crate) fn document(routes: Routes) -> OpenApi {
    let mut document = routes.into_router().into_openapi();
    complete(&mut document);
    document
}

/// Adds what all routes have in common.
pub(crate) fn complete(document: &mut OpenApi) {
    let mut info = Info::new("mimeo", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Machines (microVMs), their containers and snapshots over HTTP. Errors are problem documents (RFC 9457) with a stable `code`."
            .to_owned(),
    );
    info.license = Some(License::new("Apache-2.0"));
    document.info = info;
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = document.components.take().unwrap_or_else(|| ComponentsBuilder::new().build());
    let mut components = components;
    components.security_schemes.insert(BEARER.to_owned(), SecurityScheme::Http(scheme).into());
    components.schemas.insert("Problem".to_owned(), Problem::schema());
    document.components = Some(components);
    let mut used_tags = std::collections::BTreeSet::new();
    for (path, item) in &mut document.paths.paths {
        item.post.iter_mut().for_each(describe_idempotency_key);
        let prefix = path.split('/').find(|part| matches!(*part, "vms" | "containers")).map(str::to_owned);
        for operation in operations(item) {
            add_problem(operation);
            used_tags.extend(operation.tags.iter().flatten().cloned());
            // Routes of both views have one handler, but each its own id.
            if let (Some(prefix), Some(id)) = (&prefix, &mut operation.operation_id) {
                *id = format!("{prefix}_{id}");
            }
        }
    }
    let tags = TAGS.into_iter().filter(|(name, _)| used_tags.contains(*name));
    let tag = |(name, text)| TagBuilder::new().name(name).description(Some(text)).build();
    document.tags = Some(tags.map(tag).collect());
}

/// A repeated POST gets the answer of the first one.
fn describe_idempotency_key(operation: &mut Operation) {
    let schema = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255));
    let parameter = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .description(Some("A key of the client's choice: a request that is sent again with it within 24 hours gets the first answer"))
        .schema(Some(schema))
        .build();
    operation.parameters.get_or_insert_default().push(parameter.into());
}

/// Any route may answer with a problem.
fn add_problem(operation: &mut Operation) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let problem = ResponseBuilder::new()
        .description("The request failed.")
        .content("application/problem+json", content)
        .build();
    for status in ["4XX", "5XX"] {
        operation.responses.responses.insert(status.to_owned(), problem.clone().into());
    }
}
