# Every container says what it takes, and is promised the memory that it may use.
package policies.resources

containers contains one if some one in input.review.object.spec.containers
containers contains one if some one in input.review.object.spec.initContainers

violation contains {"msg": msg} if {
	some one in containers
	some part in ["requests", "limits"]
	some name in ["cpu", "memory", "ephemeral-storage"]
	not one.resources[part][name]
	msg := sprintf("container %v has no %v of %v", [one.name, part, name])
}

violation contains {"msg": msg} if {
	some one in containers
	one.resources.requests.memory != one.resources.limits.memory
	msg := sprintf("container %v is not promised its memory", [one.name])
}
