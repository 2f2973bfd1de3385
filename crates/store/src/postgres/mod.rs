//! The store in a Postgres database, which several gateways may share.

mod address;
mod error;
mod inspect;
mod link;
mod read;
mod row;
mod schema;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use registrar_model::{BackendName, ClientId, OperationId, Registration, RegistrationId};

use crate::{
    ApiKey, Begun, InitialAccessToken, Intent, KeyUse, Operation, OperationState, OperationUpdate, PageOf, PageRequest,
    RegistrationChange, RegistrationFilter, Sealed, Store, StoreError, Unused, Usage, cursor,
    error::Trouble,
    location::Location,
    row::{ApiKeyRow, ChangeRow, OperationRow, UpdateRow},
};
pub(crate) use address::Address;
pub(crate) use inspect::inspect;
use link::{Link, Work};
use read::RegistrationQuery;
use row::escape;

/// The registry and the journal in a Postgres database.
#[derive(Debug)]
pub struct PostgresStore {
    /// Shown, and nothing else, by `Debug`.
    #[expect(dead_code, reason = "for `Debug`")]
    address: Address,
    link: Link,
}

impl PostgresStore {
    /// Connects to the database of a `postgres://` URL, and makes its tables or brings them up to date.
    ///
    /// # Errors
    /// [`StoreError::Url`] (it is wrong, or the server refuses who it names), [`StoreError::Incompatible`] (of a newer
    /// version or another program; left as it was), [`StoreError::Unavailable`].
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        match Location::parse(url)? {
            Location::Postgres(address) => Self::connect(*address).await,
            _ => Err(StoreError::Url("it is not a `postgres:` URL".to_owned())),
        }
    }

    pub(crate) async fn connect(address: Address) -> Result<Self, StoreError> {
        let link = Link::new(&address)?;
        schema::prepare(&link).await?;
        Ok(Self { address, link })
    }

    /// The same, where a store is there already.
    pub(crate) async fn connect_existing(address: Address) -> Result<Self, StoreError> {
        let link = Link::new(&address)?;
        schema::prepare_existing(&link).await?;
        Ok(Self { address, link })
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn begin(&self, intent: Intent) -> Result<Begun, StoreError> {
        let Intent { operation, key, spend } = intent;
        let (row, key, spend) = (&OperationRow::new(operation)?, key.as_ref(), spend.as_ref());
        self.link.run(Work::Write, |mut c| async move { write::begin(&mut c, row, key, spend).await }).await
    }

    async fn finish(&self, update: Arc<OperationUpdate>, change: Option<RegistrationChange>) -> Result<(), StoreError> {
        let change = change.map(ChangeRow::new).transpose()?;
        let (row, change) = (&UpdateRow::new(update), change.as_ref());
        self.link.run(Work::Write, |mut c| async move { write::finish(&mut c, row, change, false).await }).await
    }

    async fn amend(&self, update: Arc<OperationUpdate>, change: Option<RegistrationChange>) -> Result<(), StoreError> {
        let change = change.map(ChangeRow::new).transpose()?;
        let (row, change) = (&UpdateRow::new(update), change.as_ref());
        self.link.run(Work::Write, |mut c| async move { write::finish(&mut c, row, change, true).await }).await
    }

    async fn key_use(&self, key: &[u8; 32], since: i64) -> Result<Option<KeyUse>, StoreError> {
        self.link.run(Work::Read, |c| async move { read::key_use(&c, key, since).await }).await
    }

    async fn claim(&self, owner: &str, now: i64, until: i64, limit: u32) -> Result<Vec<Operation>, StoreError> {
        self.link.run(Work::Write, |c| async move { write::claim(&c, owner, (now, until), limit).await }).await
    }

    async fn sealed(&self, id: OperationId, now: i64) -> Result<Option<Sealed>, StoreError> {
        self.link.run(Work::Read, |c| async move { read::sealed(&c, id, now).await }).await
    }

    async fn destroy_sealed(&self, id: OperationId) -> Result<bool, StoreError> {
        let sql = "UPDATE operations SET sealed = NULL, sealed_until = NULL WHERE id = $1 AND sealed IS NOT NULL";
        self.link.run(Work::Write, |c| async move { write::changes(&c, sql, &[&id.to_string()]).await }).await
    }

    async fn purge(&self, now: i64, keys_before: i64) -> Result<(), StoreError> {
        self.link.run(Work::Write, |c| async move { write::purge(&c, now, keys_before).await }).await
    }

    async fn once(&self, name: &'static str, proposed: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let proposed = proposed.as_slice();
        self.link.run(Work::Write, |c| async move { write::once(&c, name, proposed).await }).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn registration(&self, id: RegistrationId) -> Result<Option<Registration>, StoreError> {
        self.link.run(Work::Read, |c| async move { read::registration(&c, id).await }).await
    }

    async fn registered(
        &self,
        backend: &BackendName,
        client_id: &ClientId,
    ) -> Result<Option<RegistrationId>, StoreError> {
        let (backend, client_id) = (backend.as_str(), client_id.as_str());
        self.link.run(Work::Read, |c| async move { read::registered(&c, backend, client_id).await }).await
    }

    async fn registrations(
        &self,
        filter: &RegistrationFilter,
        page: PageRequest,
    ) -> Result<PageOf<Registration>, StoreError> {
        let query = &RegistrationQuery::new(filter, cursor::after(&page)?, page.size());
        self.link.run(Work::Read, |c| async move { query.run(&c).await }).await
    }

    async fn open_clients(&self, route: &str) -> Result<u64, StoreError> {
        self.link.run(Work::Read, |c| async move { read::open_clients(&c, route).await }).await
    }

    async fn used(&self, id: RegistrationId, now: i64) -> Result<Usage, StoreError> {
        self.link.run(Work::Write, |c| async move { write::used(&c, &id.to_string(), now).await }).await
    }

    async fn unused(&self, until: i64, after: Option<Unused>, limit: u32) -> Result<Vec<Unused>, StoreError> {
        self.link.run(Work::Read, |c| async move { read::unused(&c, until, after, limit).await }).await
    }

    async fn operation(&self, id: OperationId) -> Result<Option<Operation>, StoreError> {
        self.link.run(Work::Read, |c| async move { read::operation(&c, id).await }).await
    }

    async fn operations(
        &self,
        state: Option<OperationState>,
        page: PageRequest,
    ) -> Result<PageOf<Operation>, StoreError> {
        let (after, size) = (cursor::after(&page)?, page.size());
        self.link.run(Work::Read, |c| async move { read::operations(&c, state, after, size).await }).await
    }

    async fn put_api_key(&self, key: ApiKey) -> Result<(), StoreError> {
        let row = &ApiKeyRow::new(key)?;
        self.link.run(Work::Write, |c| async move { write::put_api_key(&c, row).await }).await
    }

    async fn api_key(&self, id: &str) -> Result<Option<ApiKey>, StoreError> {
        self.link.run(Work::Read, |c| async move { read::api_key(&c, id).await }).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.link.run(Work::Read, |c| async move { read::api_keys(&c).await }).await
    }

    async fn delete_api_key(&self, name: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM api_keys WHERE name = $1";
        self.link.run(Work::Write, |c| async move { write::changes(&c, sql, &[&escape(name)]).await }).await
    }

    async fn put_initial_access_token(&self, token: InitialAccessToken) -> Result<(), StoreError> {
        let token = &token;
        self.link.run(Work::Write, |c| async move { write::put_initial_access_token(&c, token).await }).await
    }

    async fn initial_access_token(&self, id: &str) -> Result<Option<InitialAccessToken>, StoreError> {
        self.link.run(Work::Read, |c| async move { read::initial_access_token(&c, id).await }).await
    }

    async fn initial_access_tokens(&self) -> Result<Vec<InitialAccessToken>, StoreError> {
        self.link.run(Work::Read, |c| async move { read::initial_access_tokens(&c).await }).await
    }

    async fn delete_initial_access_token(&self, id: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM initial_access_tokens WHERE id = $1";
        self.link.run(Work::Write, |c| async move { write::changes(&c, sql, &[&escape(id)]).await }).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // also true of a standby
        let sql = "SELECT current_setting('transaction_read_only')::bool";
        let read_only =
            self.link.run(Work::Read, |c| async move { read::one(&c, sql, &[], |r| row::column(r, 0)).await });
        match read_only.await? {
            Some(false) => Ok(()),
            _ => Err(StoreError::Unavailable(Trouble::ReadOnly)),
        }
    }

    async fn close(&self) {
        self.link.close().await;
    }
}
