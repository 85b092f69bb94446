//! A gateway, and how it is reached.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
#[cfg(feature = "tls")]
use tonic::transport::ClientTlsConfig;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::error::Error;
#[cfg(feature = "tls")]
use crate::error::causes;
use crate::proto::v1::event_service_client::EventServiceClient;
use crate::proto::v1::subscription_service_client::SubscriptionServiceClient;
use crate::retry::Retry;

pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An event with its payload may reach 4 MiB, which is gRPC's default limit.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A gateway: its address, the TLS of the connection, and the token that is shown to it.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use clerkcast_client::Gateway;
/// use clerkcast_client::proto::v1::ListSubscriptionsRequest;
///
/// let gateway = Gateway::new("http://127.0.0.1:50051")?;
/// let mut client = gateway.subscriptions();
/// let list = client.list_subscriptions(ListSubscriptionsRequest::default()).await?;
/// for subscription in list.into_inner().subscriptions {
///     println!("{} {}", subscription.name, subscription.cursor);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Gateway {
    endpoint: Endpoint,
    channel: Channel,
    credentials: Credentials,
}

/// Connections that show a gateway's token.
pub type Authorized = InterceptedService<Channel, Credentials>;

impl Gateway {
    /// The gateway at `address`: `http://` or `grpc://`, with TLS `https://` or `grpcs://`;
    /// without a scheme, none. It is connected to when a call needs it.
    ///
    /// # Errors
    /// When `address` is not one.
    pub fn new(address: &str) -> Result<Self, Error> {
        let endpoint = endpoint(address)?;
        Ok(Self {
            channel: endpoint.connect_lazy(),
            endpoint,
            credentials: Credentials::default(),
        })
    }

    /// Speaks TLS in this way: with a CA of your own, or a client certificate.
    ///
    /// # Errors
    /// When a certificate or key is not one.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ClientTlsConfig) -> Result<Self, Error> {
        let endpoint = self.endpoint.tls_config(tls);
        self.endpoint = endpoint.map_err(|error| Error::Tls(causes(&error)))?;
        self.channel = self.endpoint.connect_lazy();
        Ok(self)
    }

    /// Shows this bearer token, which `clerkcast token new` made, to the gateway.
    ///
    /// # Errors
    /// When it is not one: it holds characters that a header cannot carry.
    pub fn token(mut self, token: &str) -> Result<Self, Error> {
        let mut value = format!("Bearer {}", token.trim())
            .parse::<MetadataValue<Ascii>>()
            .map_err(|_| Error::Token)?;
        value.set_sensitive(true);
        self.credentials.authorization = Some(value);
        Ok(self)
    }

    /// The calls of `EventService`.
    #[must_use]
    pub fn events(&self) -> EventServiceClient<Authorized> {
        let channel = self.channel.clone();
        EventServiceClient::with_interceptor(channel, self.credentials.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The calls of `SubscriptionService`.
    #[must_use]
    pub fn subscriptions(&self) -> SubscriptionServiceClient<Authorized> {
        let channel = self.channel.clone();
        SubscriptionServiceClient::with_interceptor(channel, self.credentials.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// What the failure of a call means, if the call is not repeated: with what to change about
    /// the address, if that is what the failure shows.
    #[must_use]
    pub fn error(&self, status: Status) -> Error {
        Retry::new(self.is_tls()).error(status)
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.endpoint.uri().scheme_str() == Some("https")
    }
}

/// The token of a [`Gateway`], added to each call.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    authorization: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.authorization {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

/// The address with the scheme that HTTP knows it by.
#[must_use]
pub fn with_scheme(address: &str) -> String {
    match address.split_once("://") {
        Some(("grpc", rest)) => format!("http://{rest}"),
        Some(("grpcs", rest)) => format!("https://{rest}"),
        Some(_) => address.to_owned(),
        None => format!("http://{address}"),
    }
}

fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let invalid = || Error::Address(address.to_owned());
    let endpoint = Endpoint::from_shared(with_scheme(address))
        .map_err(|_| invalid())?
        .connect_timeout(CONNECT_TIMEOUT);
    match endpoint.uri().scheme_str() {
        Some("http") => Ok(endpoint),
        #[cfg(feature = "tls")]
        Some("https") => {
            let system = ClientTlsConfig::new().with_native_roots();
            let secured = endpoint.clone().tls_config(system);
            // A system without authorities trusts no one until `Gateway::tls` names some.
            let secured = secured.or_else(|_| endpoint.tls_config(ClientTlsConfig::new()));
            secured.map_err(|_| invalid())
        }
        #[cfg(not(feature = "tls"))]
        Some("https") => Err(Error::Tls(
            "this build has no TLS support; build with the feature tls".to_owned(),
        )),
        _ => Err(invalid()),
    }
}
