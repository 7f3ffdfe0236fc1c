//! What the name of a GPU model tells about it.

/// The figures of a model; 0 where unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hardware {
    /// Memory in GB.
    pub memory_gb: u32,
    /// CUDA cores.
    pub cuda_cores: u32,
    /// Dense FP16 tensor TFLOPS by the data sheet.
    pub performance_score: u32,
}

/// Start of the model's name, form factor somewhere behind it, CUDA cores, TFLOPS. The first row that fits counts.
const FAMILIES: [(&str, &str, u32, u32); 6] = [
    ("A100", "", 6_912, 312),
    ("H100", "PCIe", 14_592, 756),
    ("H100", "", 16_896, 989),
    ("GH200", "", 16_896, 989),
    ("H200", "", 16_896, 989),
    ("B200", "", 0, 2_250),
];

impl Hardware {
    /// The figures of a model such as `H100_80GB_SXM5`.
    pub fn of(model: &str) -> Self {
        let memory = model.split('_').find_map(|part| part.strip_suffix("GB")?.parse().ok());
        let family =
            FAMILIES.iter().find(|(start, form, ..)| model.starts_with(start) && model.contains(form));
        let (cuda_cores, performance_score) = family.map_or((0, 0), |&(_, _, cores, tflops)| (cores, tflops));
        Self { memory_gb: memory.unwrap_or(0), cuda_cores, performance_score }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_memory_and_family() {
        let row = |model| (Hardware::of(model).memory_gb, Hardware::of(model).cuda_cores);
        assert_eq!(row("H100_80GB_SXM5"), (80, 16_896));
        assert_eq!(row("H100_80GB_PCIe"), (80, 14_592));
        assert_eq!(row("GH200_96GB"), (96, 16_896));
        assert_eq!(Hardware::of("abacus"), Hardware::default());
    }
}
