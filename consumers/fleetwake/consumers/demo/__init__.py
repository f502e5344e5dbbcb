"""The demonstration: a fleet at work, on a Kafka of its own."""
