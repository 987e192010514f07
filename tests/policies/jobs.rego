# A Job is removed some time after its end, is not retried for ever, and ends.
package policies.jobs

spec := input.review.object.spec

violation contains {"msg": "the Job is never removed"} if not spec.ttlSecondsAfterFinished

violation contains {"msg": "the Job may be retried too often"} if spec.backoffLimit > input.parameters.retries

violation contains {"msg": "the Job has no deadline"} if not spec.activeDeadlineSeconds
