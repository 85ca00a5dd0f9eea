//! The calls of `SubscriptionService`, one by one. It never keeps anything between two of them.

use std::collections::BTreeSet;

use tonic::{Request, Response, Status, Streaming};

use super::{SubscriptionApi, asked, consuming, told};
use crate::{
    api::{
        Refused,
        events::{Answers, caller},
    },
    domain::{Position, Sequence},
    identity::Caller,
    subscribe::durable::{LetterFacts, SubscriptionFacts},
    views::page_token::TokenBinding,
    wire::proto::{self, subscription_service_server::SubscriptionService},
};

/// How many dead letters a page has where the request says nothing, and at most.
const PAGE_SIZES: [usize; 2] = [100, 1_000];

impl SubscriptionApi {
    async fn answer<Q, T, A>(
        &self,
        method: &'static str,
        request: Request<Q>,
        call: impl AsyncFnOnce(&Caller, Q) -> Result<T, Refused>,
        answer: impl FnOnce(T) -> A,
    ) -> Result<Response<A>, Status> {
        let caller = caller(&request)?;
        let result = call(&caller, request.into_inner()).await;
        result.map(|told| Response::new(answer(told))).map_err(|refused| self.parts.refuse(&caller, method, refused))
    }

    async fn letters(
        &self,
        caller: &Caller,
        asked: &proto::ListDeadLettersRequest,
    ) -> Result<(Vec<LetterFacts>, String), Refused> {
        let parts = &self.parts;
        let owner = parts.whose(caller, &asked.owner)?;
        let [default, most] = PAGE_SIZES;
        let size = if asked.page_size == 0 { default } else { (asked.page_size as usize).min(most) };
        let binding = TokenBinding::of(&[
            b"ListDeadLetters",
            caller.id.as_str().as_bytes(),
            owner.as_str().as_bytes(),
            asked.name.as_bytes(),
            &asked.page_size.to_le_bytes(),
        ]);
        let after = match asked.page_token.as_str() {
            "" => Sequence::ZERO,
            token => {
                let opened = parts.tokens.open(&binding, token).ok().and_then(|bytes| bytes.try_into().ok());
                let description = "must be the next_page_token of an answer to the same request, unaltered";
                let refused =
                    || Refused::invalid(vec![asked::violation("page_token", "PAGE_TOKEN_INVALID", description)]);
                Sequence(u64::from_le_bytes(opened.ok_or_else(refused)?))
            }
        };
        let mut letters = parts.durable.letters(&owner, &asked.name, after, size + 1).await?;
        let more = size < letters.len();
        letters.truncate(size);
        let last = letters.last().filter(|_| more).map(|letter| letter.position.sequence.get().to_le_bytes());
        let next = last.map_or_else(String::new, |last| parts.tokens.seal(&binding, &last));
        Ok((letters, next))
    }

    /// The places that a request names. One of another life of the log names no dead letter.
    fn places(&self, positions: &[String]) -> Result<Option<BTreeSet<Sequence>>, Refused> {
        let epoch = self.parts.recorder.position(Sequence::ZERO).epoch;
        let here = |position: Position| (position.epoch == epoch).then_some(position.sequence);
        Ok(asked::letters(positions)?.map(|positions| positions.into_iter().filter_map(here).collect()))
    }
}

#[tonic::async_trait]
impl SubscriptionService for SubscriptionApi {
    type ConsumeStream = Answers<proto::ConsumeResponse>;

    async fn create_subscription(
        &self,
        request: Request<proto::CreateSubscriptionRequest>,
    ) -> Result<Response<proto::CreateSubscriptionResponse>, Status> {
        let call = async |caller: &Caller, asked: proto::CreateSubscriptionRequest| {
            let (defined, start) = asked::create(&asked)?;
            Ok(self.parts.durable.create(&caller.id, &asked.name, defined, start).await?)
        };
        let answer = |facts: SubscriptionFacts| proto::CreateSubscriptionResponse {
            subscription: Some(told::subscription(&facts)),
        };
        self.answer("CreateSubscription", request, call, answer).await
    }

    async fn get_subscription(
        &self,
        request: Request<proto::GetSubscriptionRequest>,
    ) -> Result<Response<proto::GetSubscriptionResponse>, Status> {
        let call = async |caller: &Caller, asked: proto::GetSubscriptionRequest| {
            let owner = self.parts.whose(caller, &asked.owner)?;
            Ok(self.parts.durable.get(&owner, &asked.name)?)
        };
        let answer = |facts: SubscriptionFacts| proto::GetSubscriptionResponse {
            subscription: Some(told::subscription(&facts)),
        };
        self.answer("GetSubscription", request, call, answer).await
    }

    async fn list_subscriptions(
        &self,
        request: Request<proto::ListSubscriptionsRequest>,
    ) -> Result<Response<proto::ListSubscriptionsResponse>, Status> {
        let call = async |caller: &Caller, _| Ok(self.parts.durable.list(&caller.id));
        let answer = |all: Vec<SubscriptionFacts>| proto::ListSubscriptionsResponse {
            subscriptions: all.iter().map(told::subscription).collect(),
        };
        self.answer("ListSubscriptions", request, call, answer).await
    }

    async fn update_subscription(
        &self,
        request: Request<proto::UpdateSubscriptionRequest>,
    ) -> Result<Response<proto::UpdateSubscriptionResponse>, Status> {
        let call = async |caller: &Caller, asked: proto::UpdateSubscriptionRequest| {
            let (defined, etag) = asked::update(&asked)?;
            Ok(self.parts.durable.update(&caller.id, &asked.name, defined, etag).await?)
        };
        let answer = |facts: SubscriptionFacts| proto::UpdateSubscriptionResponse {
            subscription: Some(told::subscription(&facts)),
        };
        self.answer("UpdateSubscription", request, call, answer).await
    }

    async fn delete_subscription(
        &self,
        request: Request<proto::DeleteSubscriptionRequest>,
    ) -> Result<Response<proto::DeleteSubscriptionResponse>, Status> {
        let call = async |caller: &Caller, asked: proto::DeleteSubscriptionRequest| {
            let owner = self.parts.whose(caller, &asked.owner)?;
            self.parts.durable.delete(&owner, &asked.name).await?;
            self.parts.note_change(caller, &owner, "DeleteSubscription", &asked.name);
            Ok(())
        };
        self.answer("DeleteSubscription", request, call, |()| proto::DeleteSubscriptionResponse {}).await
    }

    async fn consume(
        &self,
        request: Request<Streaming<proto::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        consuming::consume(&self.parts, request).await
    }

    async fn seek_subscription(
        &self,
        request: Request<proto::SeekSubscriptionRequest>,
    ) -> Result<Response<proto::SeekSubscriptionResponse>, Status> {
        let call = async |caller: &Caller, asked: proto::SeekSubscriptionRequest| {
            let to = asked::seek(&asked)?;
            Ok(self.parts.durable.seek(&caller.id, &asked.name, to).await?)
        };
        let answer = |facts: SubscriptionFacts| proto::SeekSubscriptionResponse {
            subscription: Some(told::subscription(&facts)),
        };
        self.answer("SeekSubscription", request, call, answer).await
    }

    async fn pause_subscription(
        &self,
        request: Request<proto::PauseSubscriptionRequest>,
    ) -> Result<Response<proto::PauseSubscriptionResponse>, Status> {
        let call = async |caller: &Caller, asked: proto::PauseSubscriptionRequest| {
            Ok(self.parts.durable.pause(&caller.id, &asked.name).await?)
        };
        let answer = |facts: SubscriptionFacts| proto::PauseSubscriptionResponse {
            subscription: Some(told::subscription(&facts)),
        };
        self.answer("PauseSubscription", request, call, answer).await
    }

    async fn resume_subscription(
        &self,
        request: Request<proto::ResumeSubscriptionRequest>,
    ) -> Result<Response<proto::ResumeSubscriptionResponse>, Status> {
        let call = async |caller: &Caller, asked: proto::ResumeSubscriptionRequest| {
            Ok(self.parts.durable.resume(&caller.id, &asked.name).await?)
        };
        let answer = |facts: SubscriptionFacts| proto::ResumeSubscriptionResponse {
            subscription: Some(told::subscription(&facts)),
        };
        self.answer("ResumeSubscription", request, call, answer).await
    }

    async fn list_dead_letters(
        &self,
        request: Request<proto::ListDeadLettersRequest>,
    ) -> Result<Response<proto::ListDeadLettersResponse>, Status> {
        let call = async |caller: &Caller, asked| self.letters(caller, &asked).await;
        let answer = |(letters, next_page_token): (Vec<LetterFacts>, _)| proto::ListDeadLettersResponse {
            dead_letters: letters.into_iter().map(told::letter).collect(),
            next_page_token,
        };
        self.answer("ListDeadLetters", request, call, answer).await
    }

    async fn replay_dead_letters(
        &self,
        request: Request<proto::ReplayDeadLettersRequest>,
    ) -> Result<Response<proto::ReplayDeadLettersResponse>, Status> {
        let call = async |caller: &Caller, asked: proto::ReplayDeadLettersRequest| {
            let owner = self.parts.whose(caller, &asked.owner)?;
            let count = self.parts.durable.replay(&owner, &asked.name, self.places(&asked.positions)?).await?;
            self.parts.note_change(caller, &owner, "ReplayDeadLetters", &asked.name);
            Ok(count)
        };
        let answer = |count| proto::ReplayDeadLettersResponse { count: count as u32 };
        self.answer("ReplayDeadLetters", request, call, answer).await
    }

    async fn drop_dead_letters(
        &self,
        request: Request<proto::DropDeadLettersRequest>,
    ) -> Result<Response<proto::DropDeadLettersResponse>, Status> {
        let call = async |caller: &Caller, asked: proto::DropDeadLettersRequest| {
            let owner = self.parts.whose(caller, &asked.owner)?;
            let count = self.parts.durable.drop_letters(&owner, &asked.name, self.places(&asked.positions)?).await?;
            self.parts.note_change(caller, &owner, "DropDeadLetters", &asked.name);
            Ok(count)
        };
        let answer = |count| proto::DropDeadLettersResponse { count: count as u32 };
        self.answer("DropDeadLetters", request, call, answer).await
    }
}
