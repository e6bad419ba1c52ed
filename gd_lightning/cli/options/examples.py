"""The examples that the help of each subcommand begins with; a test runs every one of them."""

EXAMPLES = {
    "fit": """\
Train a regressor by gradient descent. Examples:

  python -m gd_lightning fit
      the steep line, by batch gradient descent
  python -m gd_lightning fit --data.batch_size 1 --model.lr 0.01
      the same by stochastic gradient descent
  python -m gd_lightning fit --data.problem Parabola --data.batch_size 16 --model.hidden_sizes [10] --model.lr 0.2
      a curve, by mini-batch gradient descent on a multilayer perceptron
  python -m gd_lightning fit --data.problem Table --data.problem.path scores.csv
      your own data: the last column is predicted from the others
  python -m gd_lightning fit --optimizer Adam --optimizer.lr 0.05 --trainer.max_epochs 100
      another optimiser of torch
  python -m gd_lightning fit --config noisy_line --trainer.precision 64-true
      a config, and what differs from it
  tensorboard --logdir lightning_logs
      see all runs
""",
    "plan": """\
Say before training which learning rates are stable, how fast they are, what noise they leave. Examples:

  python -m gd_lightning plan --model.lr 0.1
      the steep line, with batches of all sizes
  python -m gd_lightning plan --config stochastic_diverging
      the outcome of a config
  python -m gd_lightning plan --config parabola_mini_batch --model.lr 0.4
      a multilayer perceptron: statements about its start
  python -m gd_lightning plan --data.problem Table --data.problem.path scores.csv --json
      your own data, for a program
""",
    "compare": """\
Train variants side by side, from the same start on the same data, or compare finished runs. Examples:

  python -m gd_lightning compare
      the steep line by batch, mini-batch and stochastic gradient descent, from three seeds each
  python -m gd_lightning compare --batch_sizes full,10,1 --seeds 5 --lrs best
      each with the learning rate that suits it best
  python -m gd_lightning compare --vary model.lr=0.001,0.01,0.1,1
      any other option instead
  python -m gd_lightning compare --config parabola_batch --batch_sizes full,16,1
      what a config describes, by all variants
  python -m gd_lightning compare lightning_logs
      all existing runs, of this or of another Lightning project
""",
    "sweep": """\
Train every combination of some settings, many runs at once, and map the results. Examples:

  python -m gd_lightning sweep
      the steep line at 40 learning rates with 8 batch sizes, from three seeds each
  python -m gd_lightning sweep --model.lr 'log(1e-3,0.3,25)' --data.batch_size 1,2,4,...,full --seeds 5
      ranges of your own: log(first,last,count), linear(first,last,count), or the beginning of a series
  python -m gd_lightning sweep --config parabola_mini_batch --model.lr 'log(0.01,1,9)' --model.l1 0,0.01
      what a config describes, at several learning rates, with and without a penalty
""",
    "explore": """\
Make a web page on which learning rate, batch size, momentum and start of a line can be changed. Examples:

  python -m gd_lightning explore
      the steep line
  python -m gd_lightning explore --data.problem ExamScores --data.standardize true --file explore.html
      another line, into a file of your choice
  python -m gd_lightning explore --data.problem Table --data.problem.path scores.csv --data.standardize true
      your own data of one feature
""",
    "validate": """\
Evaluate a run on the samples that were held out for validation. Example:

  python -m gd_lightning validate --ckpt_path lightning_logs/RUN
""",
    "test": """\
Evaluate a run on the samples that were held out for test. Examples:

  python -m gd_lightning test --ckpt_path lightning_logs/RUN
  python -m gd_lightning test --ckpt_path last
""",
    "predict": """\
Predict with a run, into a CSV file. Examples:

  python -m gd_lightning predict --ckpt_path lightning_logs/RUN
      at the inputs that it was trained on
  python -m gd_lightning predict --ckpt_path lightning_logs/RUN --data.predict_inputs new.csv
      at new inputs, for a run that was trained on a table
""",
}
