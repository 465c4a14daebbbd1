//! Standardization of features.

/// Standardizes features to mean 0 and deviation 1 of the training rows; a constant feature becomes 0.
#[derive(Debug, Clone)]
pub(super) struct StandardScaler {
    means: Vec<f64>,
    deviations: Vec<f64>,
}

impl StandardScaler {
    /// Computes mean and deviation of each feature.
    #[must_use]
    pub(super) fn fit(rows: &[Vec<f64>]) -> Self {
        let (width, count) = (rows.first().map_or(0, Vec::len), rows.len().max(1) as f64);
        let means: Vec<f64> = (0..width)
            .map(|feature| rows.iter().map(|row| row[feature]).sum::<f64>() / count)
            .collect();
        let deviations = (0..width)
            .map(|feature| {
                let variance = rows
                    .iter()
                    .map(|row| (row[feature] - means[feature]).powi(2))
                    .sum::<f64>()
                    / count;
                if variance > 0.0 { variance.sqrt() } else { 1.0 }
            })
            .collect();
        Self { means, deviations }
    }

    /// Standardizes rows.
    #[must_use]
    pub(super) fn transform(&self, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let scale = |row: &Vec<f64>| {
            row.iter()
                .zip(&self.means)
                .zip(&self.deviations)
                .map(|((x, mean), deviation)| (x - mean) / deviation)
                .collect()
        };
        rows.iter().map(scale).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_standardized_by_the_training_rows() {
        let scaler = StandardScaler::fit(&[vec![1.0, 5.0], vec![3.0, 5.0]]);
        assert_eq!(
            scaler.transform(&[vec![2.0, 5.0], vec![3.0, 7.0]]),
            [vec![0.0, 0.0], vec![1.0, 2.0]],
            "mean 2 and deviation 1; constant"
        );
    }
}
