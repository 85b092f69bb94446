//! Who is subscribed now.

use prost::Message as _;

use super::problem::Problem;
use super::service::{Api, Call, FIELD_BYTES};
use super::{filter, request};
use crate::event::numbers::saturating;
use crate::fanout::{State, SubscriberPage, SubscriberView};
use crate::proto;

/// A page of subscribers ends before it reaches this.
const ANSWER_BYTES_MAX: usize = 1 << 20;

impl Api {
    /// Lists a page of subscribers: the caller's own, or all where it may see them.
    ///
    /// # Errors
    /// When the request is wrong.
    pub fn list_subscribers(
        &self,
        call: &Call,
        asked: &proto::ListSubscribersRequest,
    ) -> Result<proto::ListSubscribersResponse, Problem> {
        let principal = &call.principal;
        let (most, after) = request::list_subscribers(asked)?;
        let sees_all = principal.policy().sees_all_subscribers;
        // One more than fits, to see whether there is one.
        let views = self.fanout.list_subscribers(&SubscriberPage {
            after,
            principal: (!sees_all).then_some(principal.name()),
            most: most + 1,
        });
        let has_more = views.len() > most;
        let mut response = proto::ListSubscribersResponse::default();
        let mut bytes = 0;
        let mut last = None;
        for view in views.into_iter().take(most) {
            let number = view.number;
            let subscriber = self.subscriber(view);
            bytes += subscriber.encoded_len() + FIELD_BYTES;
            if let (true, Some(last)) = (bytes > ANSWER_BYTES_MAX, last) {
                response.next_page_token = page_token(last);
                return Ok(response);
            }
            response.subscribers.push(subscriber);
            last = Some(number);
        }
        if let (true, Some(last)) = (has_more, last) {
            response.next_page_token = page_token(last);
        }
        Ok(response)
    }

    fn subscriber(&self, view: SubscriberView) -> proto::Subscriber {
        let state = match view.state {
            State::CatchingUp => proto::SubscriberState::CatchingUp,
            State::Live => proto::SubscriberState::Live,
        };
        proto::Subscriber {
            name: view.name,
            principal: view.principal,
            peer: view.peer,
            filter: Some(filter::message(view.filter)),
            state: state.into(),
            lag: Some(view.lag.into()),
            cursor: self.fanout.cursor_at(view.position).to_string(),
            delivered_count: saturating(view.delivered),
            connect_time: Some(view.connect_time.into()),
        }
    }
}

/// Names the last subscriber of a page.
fn page_token(number: u64) -> String {
    number.to_string()
}
