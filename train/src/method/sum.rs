//! A weighted sum of methods on one encoder (`docs/method.md`, "Sums of methods"): pictures, hidden points and 2D features in
//! one run, for instance.
//!
//! One method brings the encoder ([`Method::encoder`]); the others are built around it ([`MethodKind::build_on`]).

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};
use toml::{Table, Value};

use super::{Inputs, Method, MethodKind, find, plan_with, settings};
use crate::config::{Config, DatasetInfo, MethodConfig, MethodPlan, Plan, SUM, TAP, invalid};
use crate::data::batch::{Batch, CpuBatch};
use crate::engine::objective::{Loss, Term};
use crate::error::TrainError;
use crate::model::{DecoderConfig, Mode, PhotographConfig};
use crate::optim::ParameterGroup;
use crate::run::image_grid::ImageGrid;
use crate::scalar::{Scalars, Sums};

/// Weight of a method that states none.
const DEFAULT_WEIGHT: f64 = 1.0;

/// The table `[method]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SumSettings {
    /// The methods.
    of: Vec<Summand>,
}

/// One of them with its own settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Summand {
    /// What its loss is multiplied by.
    #[serde(default = "default_weight")]
    weight: f64,
    #[serde(flatten)]
    method: MethodConfig,
}

fn default_weight() -> f64 {
    DEFAULT_WEIGHT
}

/// The networks of TAP, as they stand among the settings of a sum.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TapSettings {
    photograph: PhotographConfig,
    decoder: DecoderConfig,
}

/// Sums, by their name.
#[derive(Debug)]
pub struct SumKind;

impl MethodKind for SumKind {
    fn name(&self) -> &'static str {
        SUM
    }

    fn plan(&self, config: &Config) -> Result<MethodPlan, TrainError> {
        let settings: SumSettings = config.method.parse().map_err(invalid)?;
        let mut names = BTreeSet::new();
        for Summand { method, .. } in &settings.of {
            let name = &method.kind;
            if name == SUM || !names.insert(name.as_str()) {
                return Err(invalid(format!(
                    "method.of names {name} twice, or inside of itself"
                )));
            }
        }
        if settings.of.len() < 2 {
            return Err(invalid("method.of of a sum names at least two methods"));
        }
        let resolve = |summand: &Summand| -> Result<Summand, TrainError> {
            let of_summand = Config {
                method: summand.method.clone(),
                ..config.clone()
            };
            let plan = find(&summand.method.kind)?.plan(&of_summand)?;
            Ok(Summand {
                weight: summand.weight,
                method: as_config(plan)?,
            })
        };
        let of = settings.of.iter().map(resolve).collect::<Result<_, _>>()?;
        plan_with(SUM, &SumSettings { of })
    }

    fn files(&self, config: &Config) -> Vec<PathBuf> {
        let settings: SumSettings = config.method.parse().unwrap_or_default();
        let of_summand = |summand: Summand| {
            let kind = find(&summand.method.kind).ok();
            let of_summand = Config {
                method: summand.method,
                ..config.clone()
            };
            kind.map_or_else(Vec::new, |kind| kind.files(&of_summand))
        };
        settings.of.into_iter().flat_map(of_summand).collect()
    }

    fn bind(&self, plan: &mut Plan, data: &DatasetInfo) -> Result<(), TrainError> {
        let mut settings: SumSettings = settings(plan)?;
        for summand in &mut settings.of {
            let mut of_summand = plan_of_summand(plan, &summand.method)?;
            find(&summand.method.kind)?.bind(&mut of_summand, data)?;
            summand.method = as_config(of_summand.method)?;
        }
        plan.method = plan_with(SUM, &settings)?;
        Ok(())
    }

    fn check(&self, plan: &Plan, data: &DatasetInfo) -> Result<(), TrainError> {
        for summand in &settings::<SumSettings>(plan)?.of {
            find(&summand.method.kind)?.check(&plan_of_summand(plan, &summand.method)?, data)?;
        }
        Ok(())
    }

    fn build(&self, vs: &nn::Path<'_>, plan: &Plan) -> Result<Box<dyn Method>, TrainError> {
        let settings: SumSettings = settings(plan)?;
        let mut methods: Vec<Option<Box<dyn Method>>> = settings.of.iter().map(|_| None).collect();
        let build = |place: usize| -> Result<Box<dyn Method>, TrainError> {
            let method = &settings.of[place].method;
            find(&method.kind)?.build(vs, &plan_of_summand(plan, method)?)
        };
        // TAP takes any encoder, and has none to give.
        let giver = settings
            .of
            .iter()
            .position(|summand| summand.method.kind != TAP)
            .unwrap_or(0);
        let first = build(giver)?;
        let Some(encoder) = first.encoder() else {
            return Err(invalid(format!(
                "the method {} shares its encoder with no other",
                settings.of[giver].method.kind
            )));
        };
        methods[giver] = Some(first);
        for (place, summand) in settings.of.iter().enumerate() {
            if place == giver {
                continue;
            }
            let Summand { method, .. } = summand;
            let of_summand = plan_of_summand(plan, method)?;
            let Some(built) = find(&method.kind)?.build_on(vs, &of_summand, &encoder)? else {
                return Err(invalid(format!(
                    "the method {} needs an encoder of its own, so it cannot be added to {}",
                    method.kind, settings.of[giver].method.kind
                )));
            };
            methods[place] = Some(built);
        }
        let summands = settings.of.iter().zip(methods);
        let methods = summands
            .map(|(summand, method)| Weighted {
                name: summand.method.kind.clone(),
                weight: summand.weight,
                method: method.expect("every method was built"),
            })
            .collect();
        Ok(Box::new(SumMethod { methods, giver }))
    }
}

/// The plan of a method as the table of one.
fn as_config(plan: MethodPlan) -> Result<MethodConfig, TrainError> {
    let (photograph, decoder) = match plan {
        MethodPlan::Other(method) => return Ok(method),
        MethodPlan::Tap { photograph, decoder } => (Value::try_from(photograph), Value::try_from(decoder)),
    };
    let table = |value: Result<Value, toml::ser::Error>| value.map_err(|error| invalid(error.to_string()));
    Ok(MethodConfig {
        kind: TAP.to_owned(),
        settings: Table::from_iter([
            (String::from("photograph"), table(photograph)?),
            (String::from("decoder"), table(decoder)?),
        ]),
    })
}

/// The settings of TAP in a sum, if it is one of its methods.
///
/// # Errors
/// Where they cannot be read.
pub(super) fn tap_in(sum: &MethodConfig) -> Result<Option<(PhotographConfig, DecoderConfig)>, TrainError> {
    let settings: SumSettings = sum.parse().map_err(invalid)?;
    let tap = settings.of.into_iter().find(|summand| summand.method.kind == TAP);
    let tap: Option<TapSettings> = tap.map(|tap| tap.method.parse()).transpose().map_err(invalid)?;
    Ok(tap.map(|TapSettings { photograph, decoder }| (photograph, decoder)))
}

/// The plan with one of its methods alone.
fn plan_of_summand(plan: &Plan, method: &MethodConfig) -> Result<Plan, TrainError> {
    let method = if method.kind == TAP {
        let TapSettings { photograph, decoder } = method.parse().map_err(invalid)?;
        MethodPlan::Tap { photograph, decoder }
    } else {
        MethodPlan::Other(method.clone())
    };
    Ok(Plan {
        method,
        ..plan.clone()
    })
}

/// A method in a sum.
#[derive(Debug)]
struct Weighted {
    name: String,
    weight: f64,
    method: Box<dyn Method>,
}

impl Weighted {
    /// What its terms and scalars begin with.
    fn prefix(&self) -> String {
        format!("{}_", self.name.replace('-', "_"))
    }
}

/// Methods that read one encoder.
#[derive(Debug)]
struct SumMethod {
    methods: Vec<Weighted>,
    /// Whose encoder it is.
    giver: usize,
}

impl Loss for SumMethod {
    fn prepare(&self, batch: &mut Batch) -> Result<(), TrainError> {
        self.methods
            .iter()
            .try_for_each(|weighted| weighted.method.prepare(batch))
    }

    fn normalizer(&self, batch: &Batch) -> Sums {
        let mut sums = Sums::default();
        for weighted in &self.methods {
            sums.merge_under(&weighted.prefix(), &weighted.method.normalizer(batch));
        }
        sums
    }

    fn terms(&self, batch: &Batch, mode: Mode) -> Vec<Term> {
        let of = |weighted: &Weighted| {
            let prefix = weighted.prefix();
            let terms = weighted.method.terms(batch, mode).into_iter();
            let weight = weighted.weight;
            terms.map(move |term| Term {
                name: format!("{prefix}{}", term.name),
                weight: weight * term.weight,
                ..term
            })
        };
        self.methods.iter().flat_map(of).collect()
    }
}

impl Method for SumMethod {
    fn inputs(&self) -> Inputs {
        let inputs = self.methods.iter().map(|weighted| weighted.method.inputs());
        inputs.fold(Inputs::default(), |all, inputs| Inputs {
            views: all.views || inputs.views,
            normals: all.normals || inputs.normals,
            features: all.features || inputs.features,
        })
    }

    fn encoder_prefix(&self) -> &str {
        self.methods[self.giver].method.encoder_prefix()
    }

    /// That of the method whose encoder it is; what only another one has decays as that one says.
    fn parameter_group(&self, name: &str, tensor: &Tensor) -> ParameterGroup {
        let giver = &self.methods[self.giver].method;
        let others = || self.methods.iter().map(|weighted| &weighted.method);
        ParameterGroup {
            decays: others().all(|method| method.parameter_group(name, tensor).decays),
            ..giver.parameter_group(name, tensor)
        }
    }

    fn evaluate(&self, batch: &Batch, sums: &mut Sums) {
        for weighted in &self.methods {
            let mut of_method = Sums::default();
            weighted.method.evaluate(batch, &mut of_method);
            sums.merge_under(&weighted.prefix(), &of_method);
        }
    }

    fn scalars(&self, sums: &Sums) -> Scalars {
        let of_methods: Vec<(&Weighted, Scalars)> = self
            .methods
            .iter()
            .map(|weighted| (weighted, weighted.method.scalars(&sums.under(&weighted.prefix()))))
            .collect();
        let losses = of_methods
            .iter()
            .map(|(weighted, scalars)| weighted.weight * scalars.get("loss").unwrap_or(f64::NAN));
        let mut all = Scalars::default().with("loss", losses.sum());
        for (weighted, scalars) in &of_methods {
            for (name, value) in scalars.iter() {
                all.set(format!("{}{name}", weighted.prefix()), value);
            }
        }
        all
    }

    /// Those of the first method that has any.
    fn images(&self, cpu_batch: &CpuBatch, batch: &Batch) -> Option<ImageGrid> {
        let mut methods = self.methods.iter();
        methods.find_map(|weighted| weighted.method.images(cpu_batch, batch))
    }
}
