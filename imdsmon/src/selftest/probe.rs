//! The calls that a self-test makes, and the comparison with what was captured.

use anyhow::{Context as _, ensure};

use crate::{
    event::Endpoint,
    http::call::{Auth, Call, TokenValue},
    sandbox::client,
};

/// A path that the simulated IMDS has.
pub(crate) const PATH: &str = "/latest/meta-data/instance-id";

/// Requests `path` from the simulated IMDS; fails outside of it.
pub(crate) fn call(endpoint: Endpoint, path: &str, with_token: bool) -> anyhow::Result<()> {
    let token = with_token.then(|| client::token(endpoint, 60));
    let token = token.transpose().context("the token request failed")?;
    let status = client::get(endpoint, path, token.as_deref())?.status;
    ensure!(status == 200, "the simulated IMDS responded with {status}");
    Ok(())
}

/// Calls, in order.
#[derive(Clone, Copy)]
pub(crate) struct Expected(&'static [Auth]);

const V2: Auth = Auth::V2(TokenValue::Present);

impl Expected {
    pub(crate) const IMDSV1: Self = Self(&[Auth::V1]);
    pub(crate) const IMDSV2: Self = Self(&[Auth::TokenRequest, V2]);
    pub(crate) const BOTH: Self = Self(&[Auth::V1, Auth::TokenRequest, V2]);

    pub(crate) fn count(self) -> usize {
        self.0.len()
    }

    /// The error is a clause with the difference.
    pub(crate) fn compare<'c>(
        self,
        captured: impl IntoIterator<Item = &'c Call>,
    ) -> Result<(), String> {
        let captured: Vec<&Call> = captured.into_iter().collect();
        if captured.len() != self.count() {
            return Err(format!(
                "made {} calls, captured {}",
                self.count(),
                captured.len()
            ));
        }
        for (made, call) in self.0.iter().zip(captured) {
            let auth = call.request.auth;
            if auth != *made {
                return Err(format!("captured a {made:?} call as {auth:?}"));
            }
            let status = call.response.status();
            if status != Some(200) {
                return Err(format!("captured a response of 200 as {status:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::call::Response,
        output::json::tests::{call, response},
    };

    fn captured(auth: Auth) -> Call {
        let mut call = call();
        call.request.auth = auth;
        call
    }

    #[test]
    fn only_the_calls_that_were_made_pass() {
        let all = Expected::BOTH.0.iter().map(|auth| captured(*auth));
        let all: Vec<Call> = all.collect();
        assert_eq!(Expected::BOTH.compare(&all), Ok(()));
        assert!(Expected::BOTH.compare(&all[1..]).is_err(), "one is missing");
        assert!(Expected::IMDSV2.compare(&all).is_err(), "one too many");
        assert!(Expected::BOTH.compare(all.iter().rev()).is_err(), "order");
        let wrong: [fn(&mut Call); 3] = [
            |call| call.response = response(Some(401)),
            |call| call.response = Response::None,
            |call| call.request.auth = Auth::V2(TokenValue::Empty),
        ];
        for (number, change) in wrong.into_iter().enumerate() {
            let mut calls = all.clone();
            change(&mut calls[2]);
            assert!(Expected::BOTH.compare(&calls).is_err(), "{number}");
        }
    }
}
