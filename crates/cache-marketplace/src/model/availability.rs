//! The two values of the namespace `gpu_avail`: one GPU, or a type in a region.

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{GpuInfo, TypeAvailability};

/// What a key of `gpu_avail` holds.
///
/// As JSON it is the plain object of either: one with a `gpu_id` is a [`GpuInfo`], one without a
/// [`TypeAvailability`]. Binary formats put the variant in front.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum Availability {
    /// One GPU.
    Gpu(GpuInfo),
    /// A type in a region.
    Type(TypeAvailability),
}

#[derive(Serialize)]
#[serde(rename = "Availability")]
enum Tagged<'a> {
    Gpu(&'a GpuInfo),
    Type(&'a TypeAvailability),
}

#[derive(Deserialize)]
#[serde(rename = "Availability")]
enum TaggedOwned {
    Gpu(GpuInfo),
    Type(TypeAvailability),
}

impl Serialize for Availability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self, serializer.is_human_readable()) {
            (Self::Gpu(gpu), true) => gpu.serialize(serializer),
            (Self::Type(of_type), true) => of_type.serialize(serializer),
            (Self::Gpu(gpu), false) => Tagged::Gpu(gpu).serialize(serializer),
            (Self::Type(of_type), false) => Tagged::Type(of_type).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Availability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return Ok(match TaggedOwned::deserialize(deserializer)? {
                TaggedOwned::Gpu(gpu) => Self::Gpu(gpu),
                TaggedOwned::Type(of_type) => Self::Type(of_type),
            });
        }
        // Through a tree, since the field that decides may come last. The caller's own tracking of paths ends here,
        // so the message carries the path.
        let tree = serde_json::Value::deserialize(deserializer)?;
        let fields = tree.as_object().ok_or_else(|| D::Error::custom("expected an object"))?;
        if fields.contains_key("gpu_id") {
            serde_path_to_error::deserialize(tree).map(Self::Gpu).map_err(told)
        } else {
            serde_path_to_error::deserialize(tree).map(Self::Type).map_err(told)
        }
    }
}

fn told<E: Error>(error: serde_path_to_error::Error<serde_json::Error>) -> E {
    match error.path().to_string().as_str() {
        // The field itself is missing: the cause names it.
        "." => E::custom(error.inner()),
        path => E::custom(format!("{path}: {}", error.inner())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AvailabilityStatus, MicroUsd};
    use serde_json::json;

    fn gpu() -> GpuInfo {
        GpuInfo {
            gpu_id: "runpod/H100/1".into(),
            provider_id: "runpod".into(),
            gpu_type: "H100".into(),
            memory_gb: 80,
            cuda_cores: 16_896,
            base_price_per_hour: MicroUsd(1_650_000),
            current_price_per_hour: MicroUsd(1_980_000),
            availability_status: AvailabilityStatus::Available,
            region: "us-east".into(),
            performance_score: 989,
            last_updated: 7,
        }
    }

    fn of_type() -> TypeAvailability {
        let (gpu_type, region) = ("H100".into(), "us-east".into());
        TypeAvailability {
            gpu_type,
            region,
            total: 4,
            available: 1,
            busy: 1,
            offline: 1,
            maintenance: 1,
            last_updated: 7,
        }
    }

    #[test]
    fn both_travel_as_plain_json_objects() {
        let json = serde_json::to_value(Availability::Gpu(gpu())).unwrap();
        let expected = json!({
            "gpu_id": "runpod/H100/1", "provider_id": "runpod", "gpu_type": "H100", "memory_gb": 80,
            "cuda_cores": 16896, "base_price_per_hour": 1_650_000, "current_price_per_hour": 1_980_000,
            "availability_status": "available", "region": "us-east", "performance_score": 989, "last_updated": 7,
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Availability>(json).unwrap(), Availability::Gpu(gpu()));
        let json = serde_json::to_value(Availability::Type(of_type())).unwrap();
        assert_eq!(serde_json::from_value::<Availability>(json).unwrap(), Availability::Type(of_type()));
    }

    #[test]
    fn both_travel_in_binary() {
        for value in [Availability::Gpu(gpu()), Availability::Type(of_type())] {
            let bytes = bincode::serde::encode_to_vec(&value, bincode::config::standard()).unwrap();
            let (back, used): (Availability, usize) =
                bincode::serde::decode_from_slice(&bytes, bincode::config::standard()).unwrap();
            assert_eq!((back, used), (value, bytes.len()));
        }
    }

    #[test]
    fn the_wrong_field_is_named() {
        let good = serde_json::to_value(gpu()).unwrap();
        let with = |field: &str, value: serde_json::Value| {
            let mut json = good.clone();
            json[field] = value;
            serde_json::from_value::<Availability>(json).unwrap_err().to_string()
        };
        assert!(with("memory_gb", json!("80")).starts_with("memory_gb: "));
        assert!(with("base_price_per_hour", json!(1.65)).starts_with("base_price_per_hour: "));
        assert!(with("availability_status", json!("asleep")).starts_with("availability_status: "));
        assert!(with("colour", json!(1)).contains("colour"));
        let mut without = good.clone();
        without.as_object_mut().unwrap().remove("region");
        assert!(serde_json::from_value::<Availability>(without).unwrap_err().to_string().contains("region"));
        let error =
            serde_json::from_value::<Availability>(json!({"gpu_type": "H100"})).unwrap_err().to_string();
        assert!(error.contains("region"), "{error}");
        assert!(serde_json::from_value::<Availability>(json!([1])).is_err());
    }
}
