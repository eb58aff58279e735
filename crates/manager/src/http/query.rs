//! Query parameters, strictly: unknown ones are refused.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::{ApiError, Result};

/// The query parameters of a request, in order.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let text = parts.uri.query().unwrap_or_default();
        // Bytes that are replaced would name something else, such as another file.
        if percent_encoding::percent_decode_str(text).decode_utf8().is_err() {
            return Err(ApiError::invalid("cannot read the parameters: they are not UTF-8"));
        }
        Ok(Self { pairs: form_urlencoded::parse(text.as_bytes()).into_owned().collect() })
    }
}

impl Query {
    /// Takes the values of a parameter that can be repeated.
    pub(crate) fn take_all(&mut self, name: &str) -> Vec<String> {
        let (taken, rest) = std::mem::take(&mut self.pairs).into_iter().partition(|(key, _)| key == name);
        self.pairs = rest;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// Takes the value of a parameter.
    pub(crate) fn take(&mut self, name: &str) -> Result<Option<String>> {
        let mut values = self.take_all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(ApiError::invalid(format!("the parameter {name:?} is given more than once"))),
        }
    }

    /// Takes the value of a parameter of this type.
    pub(crate) fn take_parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|error| {
            ApiError::invalid(format!("cannot read the parameter {name:?}: {text:?}: {error}"))
        })
    }

    /// Refuses the parameters that were not taken.
    pub(crate) fn finish(self) -> Result<()> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::invalid(format!("unknown parameter {name:?}"))),
        }
    }
}
