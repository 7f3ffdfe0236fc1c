//! The bodies of the routes under `/market`.
//!
//! Money is whole millionths of a dollar, with `currency` beside it; times are milliseconds since the Unix epoch.

use cache_events::WriteToken;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BodyError;
use crate::fields::{Fields, content};

/// The only currency there is.
pub const CURRENCY: &str = "USD";

/// `PUT /market/gpus/{gpu_id}`: one GPU. What follows from other things (`current_price_per_hour`, `last_updated`) may be
/// there, so that what was read can be sent back, and is not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GpuBody {
    /// Who offers it.
    pub provider_id: String,
    /// The model.
    pub gpu_type: String,
    /// Where it stands.
    pub region: String,
    /// Memory in GB; 0 where unknown.
    pub memory_gb: u32,
    /// CUDA cores; 0 where unknown.
    pub cuda_cores: u32,
    /// A figure by which GPUs are ranked; 0 where unknown.
    pub performance_score: u32,
    /// The provider's price per hour.
    pub base_price_per_hour: u64,
    /// `available`, `busy`, `offline` or `maintenance`; left out: as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_status: Option<String>,
}

/// `PUT /market/gpus/{gpu_id}/status` and `PUT /market/providers/{provider_id}/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StatusBody {
    /// Of a GPU: `available`, `busy`, `offline` or `maintenance`; of a provider: `online`, `offline` or `maintenance`.
    pub status: String,
}

/// `PUT /market/pricing/{gpu_type}?region=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PriceBody {
    /// The base price per hour of all GPUs of the type in the region. The current price follows from it.
    pub base_price_per_hour: u64,
}

/// `POST /market/bookings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BookingBody {
    /// Chosen by the caller: asking twice with the same body is asking once.
    pub booking_id: String,
    /// The GPU.
    pub gpu_id: String,
    /// Who asks.
    pub user_id: String,
    /// From when.
    pub start_time: u64,
    /// Until when (exclusive).
    pub end_time: u64,
}

/// A value with the currency of its amounts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Priced<T> {
    /// The value; in JSON its fields stand beside the others.
    #[serde(flatten)]
    pub value: T,
    /// Of all amounts in it.
    pub currency: String,
}

impl<T> Priced<T> {
    /// A value in the only currency.
    pub fn new(value: T) -> Self {
        Self { value, currency: CURRENCY.to_owned() }
    }
}

/// What a change has made of a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Changed<T> {
    /// The value as it is now; in JSON its fields stand beside the others.
    #[serde(flatten)]
    pub value: T,
    /// Of all amounts in it.
    pub currency: String,
    /// Whether the caches of all nodes have been told. If not (status 202), the change is made all the same, and they
    /// will be.
    pub published: bool,
    /// To be shown to other nodes, as `cache-freshness: at-least=<token>`; the header `x-cache-token` says the same.
    #[schemars(with = "String")]
    pub token: WriteToken,
}

fn dollars(fields: &Fields) -> Result<(), BodyError> {
    match fields.text("currency")? {
        Some(other) if other != CURRENCY => {
            Err(content("currency", format!("{other:?} is not {CURRENCY:?}, the only one")))
        }
        _ => Ok(()),
    }
}

impl GpuBody {
    /// Reads a body. `gpu_id` may be there, and must then be that of the path.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn parse(body: &[u8], gpu_id: &str) -> Result<Self, BodyError> {
        let known = [
            "gpu_id",
            "provider_id",
            "gpu_type",
            "region",
            "memory_gb",
            "cuda_cores",
            "performance_score",
            "base_price_per_hour",
            "availability_status",
            "currency",
            "current_price_per_hour",
            "last_updated",
        ];
        let fields = Fields::parse(body, &known)?;
        dollars(&fields)?;
        if let Some(other) = fields.text("gpu_id")?.filter(|id| id != gpu_id) {
            return Err(content("gpu_id", format!("is {other:?}, but {gpu_id:?} in the path")));
        }
        Ok(Self {
            provider_id: fields.named("provider_id")?,
            gpu_type: fields.named("gpu_type")?,
            region: fields.named("region")?,
            memory_gb: fields.figure("memory_gb")?,
            cuda_cores: fields.figure("cuda_cores")?,
            performance_score: fields.figure("performance_score")?,
            base_price_per_hour: fields.counted("base_price_per_hour")?,
            availability_status: fields.text("availability_status")?,
        })
    }
}

impl StatusBody {
    /// Reads a body; `availability_status` is another name of the field.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let fields = Fields::parse(body, &["status", "availability_status"])?;
        match (fields.text("status")?, fields.text("availability_status")?) {
            (Some(status), None) | (None, Some(status)) => Ok(Self { status }),
            (None, None) => Err(content("status", "is missing")),
            _ => Err(content("availability_status", "is another name of `status`; only one may be given")),
        }
    }
}

impl PriceBody {
    /// Reads a body.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let fields = Fields::parse(body, &["base_price_per_hour", "currency"])?;
        dollars(&fields)?;
        Ok(Self { base_price_per_hour: fields.counted("base_price_per_hour")? })
    }
}

impl BookingBody {
    /// Reads a body.
    ///
    /// # Errors
    /// [`BodyError`].
    ///
    /// ```
    /// use cache_api::{BodyError, market::BookingBody};
    ///
    /// let body = br#"{"booking_id": "b", "gpu_id": "g", "user_id": "u", "start_time": -1, "end_time": 5}"#;
    /// let error = BookingBody::parse(body).unwrap_err();
    /// assert!(matches!(error, BodyError::Content { field, .. } if field == "start_time"));
    /// ```
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let known = ["booking_id", "gpu_id", "user_id", "start_time", "end_time"];
        let fields = Fields::parse(body, &known)?;
        Ok(Self {
            booking_id: fields.named("booking_id")?,
            gpu_id: fields.named("gpu_id")?,
            user_id: fields.named("user_id")?,
            start_time: fields.counted("start_time")?,
            end_time: fields.counted("end_time")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_field() {
        let gpu = |body: &str| match GpuBody::parse(body.as_bytes(), "g") {
            Err(BodyError::Content { field, .. }) => field,
            other => panic!("{body} gave {other:?}"),
        };
        assert_eq!(gpu("{}"), "provider_id");
        assert_eq!(gpu(r#"{"gpu_id": "h"}"#), "gpu_id");
        assert_eq!(gpu(r#"{"currency": "EUR"}"#), "currency");
        let with =
            |rest: &str| gpu(&format!(r#"{{"provider_id": "p", "gpu_type": "t", "region": "r", {rest}}}"#));
        assert_eq!(with(r#""memory_gb": 1"#), "base_price_per_hour");
        assert_eq!(with(r#""base_price_per_hour": 1.5"#), "base_price_per_hour");
        assert_eq!(with(r#""base_price_per_hour": -5"#), "base_price_per_hour");
        assert_eq!(with(r#""base_price_per_hour": 18446744073709551616"#), "base_price_per_hour");
        assert_eq!(with(r#""base_price_per_hour": 1, "memory_gb": 4294967296"#), "memory_gb");
        assert_eq!(with(r#""base_price_per_hour": 1, "colour": 1"#), "colour");
        assert!(
            matches!(StatusBody::parse(b"{}"), Err(BodyError::Content { field, .. }) if field == "status")
        );
        assert!(StatusBody::parse(br#"{"status": "a", "availability_status": "a"}"#).is_err());
        assert!(matches!(PriceBody::parse(b"nope"), Err(BodyError::Syntax(_))));
    }

    #[test]
    fn the_fields_of_a_value_stand_beside_its_currency() {
        let priced = Priced::new(PriceBody { base_price_per_hour: 5 });
        let json = serde_json::to_value(&priced).unwrap();
        assert_eq!(json, serde_json::json!({"base_price_per_hour": 5, "currency": "USD"}));
    }
}
