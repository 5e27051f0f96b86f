"""What will they do? Point-in-time datasets, learners, evidence, MLflow."""
